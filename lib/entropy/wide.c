#include "entropy/wide.h"

#include "base/log2.h"

#define SLOTS (1u << ZNN_WIDE_BITS)
#define LOW (1u << 16)

size_t znn_wide_estimate(const uint32_t counts[256], size_t n)
{
    uint64_t bits = 0;
    size_t table = 2;
    unsigned all = n ? znn_log2_256((uint32_t)n) : 0;
    for (unsigned s = 0; s < 256; s++) {
        if (!counts[s])
            continue;
        /* A frequency is at least 1 of 4096, so no symbol costs over 12 bits. */
        bits += (uint64_t)counts[s] * ZNN_MIN(all - znn_log2_256(counts[s]), ZNN_WIDE_BITS * 256);
        table += (uint64_t)counts[s] * 32 > n ? 2 : 1;
    }
    return (size_t)(bits >> 11) + table + 4 * ZNN_WIDE_LANES;
}

size_t znn_wide_room(size_t n)
{
    return 2 * n + 4 * ZNN_WIDE_LANES + 1024;
}

static void normalise(uint32_t freq[256], const uint32_t counts[256], size_t n)
{
    unsigned sum = 0, largest = 0;
    for (unsigned s = 0; s < 256; s++) {
        freq[s] = 0;
        if (!counts[s])
            continue;
        freq[s] = (uint32_t)(((uint64_t)counts[s] * SLOTS + n / 2) / n);
        freq[s] = ZNN_MAX(freq[s], 1);
        sum += freq[s];
        if (counts[s] > counts[largest])
            largest = s;
    }
    /* Rounding leaves a few slots too many or too few: the commonest symbol
     * feels it least; where it cannot give all, the others do in turn. */
    while (sum > SLOTS) {
        unsigned most = 0;
        for (unsigned s = 0; s < 256; s++)
            if (freq[s] > freq[most])
                most = s;
        uint32_t give = ZNN_MIN(sum - SLOTS, ZNN_MAX(freq[most] / 16, 1));
        freq[most] -= give;
        sum -= give;
    }
    freq[largest] += SLOTS - sum;
}

static size_t table_write(uint8_t *dst, const uint32_t freq[256])
{
    unsigned first = 0, last = 255;
    while (!freq[first])
        first++;
    while (!freq[last])
        last--;
    uint8_t *p = dst;
    *p++ = (uint8_t)first;
    *p++ = (uint8_t)last;
    for (unsigned s = first; s <= last; s++) {
        if (freq[s] < 128) {
            *p++ = (uint8_t)freq[s];
        } else {
            *p++ = (uint8_t)(128 | freq[s] >> 8);
            *p++ = (uint8_t)freq[s];
        }
    }
    return (size_t)(p - dst);
}

static size_t table_read(uint32_t freq[256], const uint8_t *src, size_t size)
{
    memset(freq, 0, 256 * sizeof *freq);
    if (size < 2 || src[0] > src[1])
        return 0;
    unsigned sum = 0;
    size_t at = 2;
    for (unsigned s = src[0]; s <= src[1]; s++) {
        if (at >= size)
            return 0;
        uint32_t f = src[at++];
        if (f & 128) {
            if (at >= size)
                return 0;
            f = (f & 127) << 8 | src[at++];
        }
        freq[s] = f;
        sum += f;
        if (sum > SLOTS)
            return 0;
    }
    return sum == SLOTS ? at : 0;
}

size_t znn_wide_encode(uint8_t *dst, const uint8_t *src, size_t n, const uint32_t counts[256])
{
    uint32_t freq[256], start[256], next = 0;
    normalise(freq, counts, n);
    for (unsigned s = 0; s < 256; s++) {
        start[s] = next;
        next += freq[s];
    }
    size_t head = table_write(dst, freq);
    uint8_t *end = dst + znn_wide_room(n), *p = end;
    uint32_t x[ZNN_WIDE_LANES];
    for (unsigned l = 0; l < ZNN_WIDE_LANES; l++)
        x[l] = LOW;
    for (size_t i = n; i-- > 0;) {
        uint8_t s = src[i];
        uint32_t y = x[i % ZNN_WIDE_LANES];
        if (y >> (32 - ZNN_WIDE_BITS) >= freq[s]) {
            p -= 2;
            znn_store16(p, (uint16_t)y);
            y >>= 16;
        }
        x[i % ZNN_WIDE_LANES] = (y / freq[s] << ZNN_WIDE_BITS) + y % freq[s] + start[s];
    }
    for (unsigned l = 0; l < ZNN_WIDE_LANES; l++)
        znn_store32(dst + head + 4 * l, x[l]);
    memmove(dst + head + 4 * ZNN_WIDE_LANES, p, (size_t)(end - p));
    return head + 4 * ZNN_WIDE_LANES + (size_t)(end - p);
}

bool znn_wide_decode(uint8_t *dst, size_t n, const uint8_t *src, size_t size)
{
    uint32_t freq[256];
    size_t head = table_read(freq, src, size);
    if (!head || size - head < 4 * ZNN_WIDE_LANES)
        return false;
    struct slot {
        uint16_t freq, offset;
    } slots[SLOTS];
    uint8_t symbols[SLOTS];
    for (unsigned s = 0, at = 0; s < 256; s++)
        for (unsigned i = 0; i < freq[s]; i++, at++) {
            slots[at].freq = (uint16_t)freq[s];
            slots[at].offset = (uint16_t)i;
            symbols[at] = (uint8_t)s;
        }
    uint32_t x[ZNN_WIDE_LANES];
    for (unsigned l = 0; l < ZNN_WIDE_LANES; l++)
        x[l] = znn_load32(src + head + 4 * l);
    const uint8_t *p = src + head + 4 * ZNN_WIDE_LANES, *end = src + size;
    size_t i = 0;
    /* A row of 32 reads at most 64 bytes: checked once a row. */
    for (; n - i >= ZNN_WIDE_LANES && end - p >= 2 * ZNN_WIDE_LANES; i += ZNN_WIDE_LANES)
        for (unsigned l = 0; l < ZNN_WIDE_LANES; l++) {
            uint32_t slot = x[l] % SLOTS;
            dst[i + l] = symbols[slot];
            uint32_t y = slots[slot].freq * (x[l] >> ZNN_WIDE_BITS) + slots[slot].offset;
            uint32_t refill = y < LOW;
            x[l] = refill ? y << 16 | znn_load16(p) : y;
            p += 2 * refill;
        }
    for (; i < n; i++) {
        uint32_t *state = &x[i % ZNN_WIDE_LANES], slot = *state % SLOTS;
        dst[i] = symbols[slot];
        *state = slots[slot].freq * (*state >> ZNN_WIDE_BITS) + slots[slot].offset;
        if (*state < LOW) {
            if (end - p < 2)
                return false;
            *state = *state << 16 | znn_load16(p);
            p += 2;
        }
    }
    return p == end;
}
