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
    /* x / freq as a product: 2^24 / freq rounded up is exact for x of 16 bits. */
    struct {
        uint32_t reciprocal, limit; /* limit: a state of this or more gives a byte away first */
        uint16_t freq, start;
    } by_index[ZNN_NARROW_INDICES];
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        const uint32_t f = ZNN_MAX(t->freq[i], 1);
        by_index[i].reciprocal = ((1u << 24) + f - 1) / f;
        by_index[i].limit = f << 8;
        by_index[i].freq = (uint16_t)f;
        by_index[i].start = t->start[i];
    }
    uint8_t *p = dst_end;
    uint32_t x[ZNN_NARROW_LANES_MAX];
    for (unsigned l = 0; l < lanes; l++)
        x[l] = initial[l];
    for (size_t row = rows; row-- > 0;) {
        const uint8_t *s = codes + row * lanes;
        for (unsigned l = lanes; l-- > 0;) {
            const unsigned i = s[l] % ZNN_NARROW_INDICES;
            uint32_t y = x[l];
            const uint32_t leaves = y >= by_index[i].limit;
            p[-1] = (uint8_t)y;
            p -= leaves;
            y >>= leaves << 3;
            const uint32_t q = (uint32_t)((uint64_t)y * by_index[i].reciprocal >> 24);
            x[l] = q << 8 | t->slot_of[by_index[i].start + y - q * by_index[i].freq];
        }
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
