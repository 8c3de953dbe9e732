#include "entropy/narrow_rows.h"

bool znn_narrow_decoder_begin(znn_narrow_decoder *d, const znn_narrow_table *table, unsigned lanes, const uint8_t *src,
                              size_t size, const uint8_t *escaped)
{
    if (size < 2 * (size_t)lanes)
        return false;
    d->table = table;
    d->lanes = lanes;
    d->failed = false;
    d->in_tail = false;
    d->escaped = escaped;
    memcpy(d->low, src, lanes);
    memcpy(d->high, src + lanes, lanes);
    d->next = src + 2 * (size_t)lanes;
    d->end = src + size;
    return true;
}

/* Bounds are checked here, once for many rows: a row reads at most `lanes`
 * bytes for its refills, and a vector at most 64 beyond the last. What is left of
 * the stream when that no longer fits is copied into `tail`, followed by at least
 * as much room; a row that begins at or before the end therefore stays inside it,
 * and one that would begin after it is never decoded. */
size_t znn_narrow_decoder_ready(znn_narrow_decoder *d)
{
    if (d->failed)
        return 0;
    size_t left = (size_t)(d->end - d->next);
    if (d->next <= d->end && left >= ZNN_NARROW_SLACK)
        return d->in_tail ? 1 : (left - 64) / d->lanes;
    if (!d->in_tail) {
        memcpy(d->tail, d->next, left);
        memset(d->tail + left, 0, sizeof d->tail - left);
        d->next = d->tail;
        d->end = d->tail + left;
        d->in_tail = true;
    }
    d->failed = d->next > d->end;
    return !d->failed;
}

void znn_narrow_decode_scalar(znn_narrow_decoder *d, uint8_t *out, size_t rows)
{
    const unsigned lanes = d->lanes;
    uint16_t value[ZNN_NARROW_INDICES];
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++)
        value[i] = (uint16_t)(i << 8);
    znn_narrow_rows r;
    znn_narrow_rows_begin(&r, d, value);
    for (size_t sure; rows && (sure = znn_narrow_decoder_ready(d)) > 0;) {
        sure = ZNN_MIN(sure, rows);
        rows -= sure;
        for (; sure; sure--, out += lanes) {
            znn_narrow_rows_next(&r, d, lanes, value);
            for (unsigned l = 0; l < lanes; l++)
                out[l] = (uint8_t)(r.values[l] >> 8);
        }
    }
    znn_narrow_rows_end(&r, d);
    if (rows)
        memset(out, 0, rows * lanes);
}

size_t znn_narrow_encode_scalar(const znn_narrow_table *t, unsigned lanes, const uint8_t *codes, size_t rows,
                                const uint16_t *initial, uint8_t *dst_end)
{
    znn_row_pairs by_code;
    for (unsigned i = 0; i < 256; i++) {
        const unsigned s = i % ZNN_NARROW_INDICES, f = ZNN_MAX(t->freq[s], 1);
        /* 65536 / f rounded down: the product is the quotient or one less */
        znn_row_pairs_set(&by_code, i, ZNN_MIN(65536 / f, 65535), f | (unsigned)t->start[s] << 8);
    }
    _Alignas(64) uint16_t x[ZNN_NARROW_LANES_MAX], reciprocals[ZNN_NARROW_LANES_MAX], steps[ZNN_NARROW_LANES_MAX],
        quotients[ZNN_NARROW_LANES_MAX];
    uint8_t flags[ZNN_NARROW_LANES_MAX], lows[ZNN_NARROW_LANES_MAX], list[ZNN_NARROW_LANES_MAX],
        nths[ZNN_NARROW_LANES_MAX]; /* start and remainder: the place in slot_of */
    znn_row_pairs slot_of;
    for (unsigned i = 0; i < 256; i++)
        znn_row_pairs_set(&slot_of, i, t->slot_of[i], 0);
    memcpy(x, initial, lanes * sizeof *x);
    uint8_t *p = dst_end;
    for (const uint8_t *s = codes + rows * lanes; s != codes;) {
        s -= lanes;
        znn_row_pairs_look_up(&by_code, s, lanes, reciprocals, steps);
        for (size_t l = 0; l < lanes; l += 8) {
            const znn_words8 all = znn_words8_load(x + l), freq = znn_words8_load(steps + l) & 255;
            const znn_words8 leaves = (znn_words8)(all >> 8 >= freq); /* a byte */
            znn_words8_low(lows + l, all & 255);
            znn_words8_low(flags + l, leaves & 1);
            znn_words8_store(x + l, all ^ ((all ^ all >> 8) & leaves));
        }
        for (size_t l = 0; l < lanes; l++) {
            uint32_t product = (uint32_t)x[l] * reciprocals[l];
#if defined(__i386__) && !defined(__SSE2__)
            __asm__("" : "+r"(product)); /* no vectors: GCC 12 takes two such in 32 bits, and gets them wrong */
#endif
            quotients[l] = (uint16_t)(product >> 16);
        }
        for (size_t l = 0; l < lanes; l += 8) {
            const znn_words8 step = znn_words8_load(steps + l), freq = step & 255, q = znn_words8_load(quotients + l);
            const znn_words8 rest = znn_words8_load(x + l) - q * freq, more = (znn_words8)(rest >= freq);
            const znn_words8 nth = (step >> 8) + rest - (freq & more);
            znn_words8_store(x + l, ((q - more) << 8) + (t->spread ? (znn_words8){0} : nth));
            znn_words8_low(nths + l, nth);
        }
        if (t->spread)
#pragma GCC unroll 2
            for (size_t l = 0; l < lanes; l += 4) {
                const uint8_t *const nth = nths + l;
                uint64_t four, slots, none;
                znn_row_pairs_get(&slot_of, nth[ZNN_ROW_LANE(0)], nth[ZNN_ROW_LANE(1)], nth[ZNN_ROW_LANE(2)],
                                  nth[ZNN_ROW_LANE(3)], &slots, &none);
                memcpy(&four, x + l, 8);
                four |= slots;
                memcpy(x + l, &four, 8);
            }
        const unsigned n = znn_row_list(list, flags, lanes);
        const uint8_t *const leaving = list + ZNN_NARROW_LANES_MAX - n;
        p -= n;
#pragma GCC unroll 4
        for (size_t i = 0; i < n; i++)
            p[i] = lows[leaving[i]];
    }
    p -= lanes;
    for (unsigned l = 0; l < lanes; l++)
        p[l] = (uint8_t)(x[l] >> 8);
    p -= lanes;
    for (unsigned l = 0; l < lanes; l++)
        p[l] = (uint8_t)x[l];
    return (size_t)(dst_end - p);
}

size_t znn_narrow_escapes_size(const znn_narrow_table *t, size_t count)
{
    return (count * t->escape_bits + 7) / 8;
}

void znn_narrow_escapes_write(uint8_t *dst, const znn_narrow_table *t, const uint8_t *indices, size_t count)
{
    uint8_t place[ZNN_NARROW_INDICES] = {0};
    for (unsigned i = 0; i < t->tail_count; i++)
        place[t->tail[i]] = (uint8_t)i;
    const unsigned bits = t->escape_bits;
    size_t i = 0;
    for (; count - i >= 8; i += 8) { /* 8 of them fill whole bytes */
        uint64_t word = 0;
        for (unsigned k = 0; k < 8; k++)
            word |= (uint64_t)place[indices[i + k]] << bits * k;
        for (unsigned k = 0; k < bits; k++)
            *dst++ = (uint8_t)(word >> 8 * k);
    }
    uint64_t word = 0;
    unsigned filled = 0;
    for (; i < count; i++, filled += bits)
        word |= (uint64_t)place[indices[i]] << filled;
    for (; filled > 0; filled -= ZNN_MIN(filled, 8), word >>= 8)
        *dst++ = (uint8_t)word;
}

bool znn_narrow_escapes_read_scalar(uint8_t *indices, const znn_narrow_table *t, size_t count, const uint8_t *src)
{
    const unsigned bits = t->escape_bits, mask = (1u << bits) - 1;
    unsigned highest = 0, filled = 0;
    uint32_t word = 0;
    for (size_t i = 0; i < count; i++) {
        if (filled < bits) {
            word |= (uint32_t)*src++ << filled;
            filled += 8;
        }
        const unsigned place = word & mask;
        highest = ZNN_MAX(highest, place);
        indices[i] = t->tail[place];
        word >>= bits;
        filled -= bits;
    }
    return word == 0 && (count == 0 || highest < t->tail_count);
}
