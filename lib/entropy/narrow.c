#include "entropy/narrow.h"

#include "base/log2.h"

void znn_narrow_table_build(znn_narrow_table *t, const uint8_t *symbols, const uint32_t *counts, unsigned count)
{
    uint32_t freq[ZNN_NARROW_SYMBOLS];
    uint64_t total = 0;
    unsigned sum = 0;
    for (unsigned i = 0; i < count; i++)
        total += counts[i];
    for (unsigned i = 0; i < count; i++) {
        uint64_t f = total ? (uint64_t)counts[i] * 256 / total : 1;
        freq[i] = (uint32_t)ZNN_MIN(ZNN_MAX(f, 1), 255);
        sum += freq[i];
    }
    /* Give or take one step at a time where it helps most or costs least. */
    while (sum != 256) {
        unsigned best = count;
        uint64_t best_value = 0;
        for (unsigned i = 0; i < count; i++) {
            bool up = sum < 256;
            if (freq[i] == (up ? 255u : 1u))
                continue;
            unsigned step = up ? znn_log2_256(freq[i] + 1) - znn_log2_256(freq[i]) : znn_log2_256(freq[i]) - znn_log2_256(freq[i] - 1);
            uint64_t value = ((uint64_t)counts[i] + 1) * step;
            if (best == count || (up ? value > best_value : value < best_value)) {
                best = i;
                best_value = value;
            }
        }
        if (sum < 256) {
            freq[best]++;
            sum++;
        } else {
            freq[best]--;
            sum--;
        }
    }
    memset(t, 0, sizeof *t);
    t->count = count;
    /* With states this short, a symbol costs about (start + freq / 2 - 128) / 256
     * of a state's high byte more or less than its due; so the commonest stand in the
     * middle, where that is nothing: rarest first and last. */
    unsigned below = 0, above = count;
    for (unsigned n = 0; n < count; n++) {
        unsigned rarest = count;
        for (unsigned i = 0; i < count; i++)
            if (freq[i] && (rarest == count || freq[i] < freq[rarest]))
                rarest = i;
        unsigned at = n & 1 ? --above : below++;
        t->order[at] = symbols[rarest];
        t->freq[symbols[rarest] & 63] = (uint8_t)freq[rarest];
        freq[rarest] = 0;
    }
    unsigned start = 0;
    for (unsigned i = 0; i < count; i++) {
        uint8_t s = t->order[i], f = t->freq[s & 63];
        t->start[s & 63] = (uint8_t)start;
        memset(t->symbol_of_slot + start, s, f);
        start += f;
    }
}

size_t znn_narrow_table_write(const znn_narrow_table *t, uint8_t *dst)
{
    *dst++ = (uint8_t)(t->count - 1);
    for (unsigned i = 0; i < t->count; i++) {
        *dst++ = t->order[i];
        *dst++ = t->freq[t->order[i] & 63];
    }
    return 1 + 2 * (size_t)t->count;
}

size_t znn_narrow_table_read(znn_narrow_table *t, const uint8_t *src, size_t size)
{
    if (size < 1 || src[0] >= ZNN_NARROW_SYMBOLS || size < 3 + 2 * (size_t)src[0])
        return 0;
    memset(t, 0, sizeof *t);
    t->count = src[0] + 1u;
    unsigned start = 0;
    for (unsigned i = 0; i < t->count; i++) {
        uint8_t s = src[1 + 2 * i], f = src[2 + 2 * i];
        if (f == 0 || t->freq[s & 63] != 0 || start + f > 256)
            return 0;
        t->order[i] = s;
        t->freq[s & 63] = f;
        t->start[s & 63] = (uint8_t)start;
        memset(t->symbol_of_slot + start, s, f);
        start += f;
    }
    return start == 256 ? 1 + 2 * (size_t)t->count : 0;
}

bool znn_narrow_decoder_begin(znn_narrow_decoder *d, const znn_narrow_table *table, unsigned lanes, const uint8_t *src,
                              size_t size)
{
    if (size < 2 * (size_t)lanes)
        return false;
    d->table = table;
    d->lanes = lanes;
    d->failed = false;
    d->in_tail = false;
    memcpy(d->low, src, lanes);
    memcpy(d->high, src + lanes, lanes);
    d->next = src + 2 * (size_t)lanes;
    d->end = src + size;
    return true;
}

/* Bounds are checked here, once a row: a row reads at most `lanes` bytes for
 * its refills, and a vector at most 64 beyond the last. What is left of the
 * stream when that no longer fits is copied into `tail`, followed by at least as
 * much room; a row that begins at or before the end therefore stays inside it,
 * and one that would begin after it is never decoded. */
bool znn_narrow_decoder_ready(znn_narrow_decoder *d)
{
    if (d->failed)
        return false;
    size_t left = (size_t)(d->end - d->next);
    if (d->next <= d->end && left >= ZNN_NARROW_SLACK)
        return true;
    if (!d->in_tail) {
        memcpy(d->tail, d->next, left);
        memset(d->tail + left, 0, sizeof d->tail - left);
        d->next = d->tail;
        d->end = d->tail + left;
        d->in_tail = true;
    }
    if (d->next > d->end)
        d->failed = true;
    return !d->failed;
}

void znn_narrow_decode_scalar(znn_narrow_decoder *d, uint8_t *out, size_t rows)
{
    uint32_t slots[256]; /* symbol, frequency, slot - start: one load a symbol */
    const znn_narrow_table *t = d->table;
    for (unsigned i = 0; i < 256; i++) {
        uint8_t s = t->symbol_of_slot[i];
        slots[i] = s | (uint32_t)t->freq[s & 63] << 8 | (i - t->start[s & 63]) << 16;
    }
    unsigned lanes = d->lanes;
    uint32_t x[ZNN_NARROW_LANES_MAX];
    for (unsigned l = 0; l < lanes; l++)
        x[l] = d->low[l] | (uint32_t)d->high[l] << 8;
    for (; rows && znn_narrow_decoder_ready(d); rows--, out += lanes) {
        const uint8_t *next = d->next;
        for (unsigned l = 0; l < lanes; l++) {
            uint32_t slot = slots[x[l] & 255];
            uint32_t y = (slot >> 8 & 255) * (x[l] >> 8) + (slot >> 16);
            out[l] = (uint8_t)slot;
            uint32_t refill = y < 256; /* without a branch: it would be missed often */
            x[l] = y << (refill << 3) | (next[0] & (0u - refill));
            next += refill;
        }
        d->next = next;
    }
    for (unsigned l = 0; l < lanes; l++) {
        d->low[l] = (uint8_t)x[l];
        d->high[l] = (uint8_t)(x[l] >> 8);
    }
    if (rows)
        memset(out, 0, rows * lanes);
}

size_t znn_narrow_encode_scalar(const znn_narrow_table *t, unsigned lanes, const uint8_t *symbols, size_t rows,
                                const uint16_t *initial, uint8_t *dst_end)
{
    uint8_t *p = dst_end;
    uint32_t x[ZNN_NARROW_LANES_MAX];
    for (unsigned l = 0; l < lanes; l++)
        x[l] = initial[l];
    for (size_t row = rows; row-- > 0;) {
        const uint8_t *s = symbols + row * lanes;
        for (unsigned l = lanes; l-- > 0;) {
            uint32_t f = t->freq[s[l] & 63], start = t->start[s[l] & 63], y = x[l];
            p[-1] = (uint8_t)y;
            if (y >= f << 8) {
                p--;
                y >>= 8;
            }
            x[l] = (y / f << 8) + y % f + start;
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
