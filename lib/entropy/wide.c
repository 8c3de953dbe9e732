#include "entropy/wide.h"

#include "base/cpu.h"
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

/* n symbols, of lanes 0, 1, ..., backwards; refills go before p. */
static uint8_t *encode_scalar(const uint8_t *src, size_t n, uint32_t x[ZNN_WIDE_LANES], const uint32_t places[256],
                              uint8_t *p)
{
    /* x / freq as a product: 2^44 / freq rounded up is exact for x < freq << 20. */
    uint64_t reciprocals[256];
    for (unsigned s = 0; s < 256; s++) {
        const uint32_t f = ZNN_MAX(places[s] & 0xffff, 1);
        reciprocals[s] = ((UINT64_C(1) << 44) + f - 1) / f;
    }
    for (size_t i = n; i-- > 0;) {
        const uint8_t s = src[i];
        const uint32_t f = places[s] & 0xffff;
        uint32_t y = x[i % ZNN_WIDE_LANES];
        const uint32_t leaves = y >> (32 - ZNN_WIDE_BITS) >= f;
        znn_store16(p - 2, (uint16_t)y);
        p -= 2 * leaves;
        y >>= 16 * leaves;
        const uint32_t q = (uint32_t)(y * reciprocals[s] >> 44);
        x[i % ZNN_WIDE_LANES] = (q << ZNN_WIDE_BITS) + y - q * f + (places[s] >> 16);
    }
    return p;
}

size_t znn_wide_encode(uint8_t *dst, const uint8_t *src, size_t n, const uint32_t counts[256])
{
    uint32_t freq[256], next = 0;
    normalise(freq, counts, n);
    uint32_t places[256]; /* frequency, and start << 16 */
    for (unsigned s = 0; s < 256; s++) {
        places[s] = freq[s] | next << 16;
        next += freq[s];
    }
    size_t head = table_write(dst, freq);
    uint8_t *end = dst + znn_wide_room(n);
    uint32_t x[ZNN_WIDE_LANES];
    for (unsigned l = 0; l < ZNN_WIDE_LANES; l++)
        x[l] = LOW;
    /* What is no whole row comes first, since all is backwards. */
    const size_t rows = n / ZNN_WIDE_LANES, whole = rows * ZNN_WIDE_LANES;
    uint8_t *p = encode_scalar(src + whole, n - whole, x, places, end);
#if ZNN_X86
    if (znn_cpu_isa() == ZNN_ISA_AVX512) {
        uint32_t reciprocals[256];
        for (unsigned s = 0; s < 256; s++)
            reciprocals[s] = freq[s] > 1 ? (uint32_t)((UINT64_C(1) << 32) / freq[s]) : UINT32_MAX;
        p = znn_wide_encode_rows_avx512(src, rows, x, places, reciprocals, p);
    } else
#endif
        p = encode_scalar(src, whole, x, places, p);
    for (unsigned l = 0; l < ZNN_WIDE_LANES; l++)
        znn_store32(dst + head + 4 * l, x[l]);
    memmove(dst + head + 4 * ZNN_WIDE_LANES, p, (size_t)(end - p));
    return head + 4 * ZNN_WIDE_LANES + (size_t)(end - p);
}

/* Rows as long as a row's refills are surely there. Slots: symbol, frequency << 8, offset << 20. */
static const uint8_t *decode_rows(uint8_t *dst, size_t rows, uint32_t x[ZNN_WIDE_LANES], const uint32_t *slots,
                                  const uint8_t *p, const uint8_t *end, size_t *done)
{
    size_t i = 0;
    for (; i < rows && end - p >= 2 * ZNN_WIDE_LANES; i++, dst += ZNN_WIDE_LANES)
        for (unsigned l = 0; l < ZNN_WIDE_LANES; l++) {
            const uint32_t slot = slots[x[l] % SLOTS];
            dst[l] = (uint8_t)slot;
            const uint32_t y = (slot >> 8 & (SLOTS - 1)) * (x[l] >> ZNN_WIDE_BITS) + (slot >> 20);
            uint32_t filled = y << 16 | znn_load16(p);
            /* Both are there, so choosing is a conditional move: a branch would be missed often. */
            __asm__("" : "+r"(filled));
            x[l] = y < LOW ? filled : y;
            p += y < LOW ? 2 : 0;
        }
    *done = i;
    return p;
}

bool znn_wide_decode(uint8_t *dst, size_t n, const uint8_t *src, size_t size)
{
    uint32_t freq[256];
    size_t head = table_read(freq, src, size);
    if (!head || size - head < 4 * ZNN_WIDE_LANES)
        return false;
    uint32_t slots[SLOTS];
    for (unsigned s = 0, at = 0; s < 256; s++) {
        if (freq[s] == SLOTS) { /* which 12 bits do not hold: all are this symbol, and nothing is refilled */
            memset(dst, (int)s, n);
            for (unsigned l = 0; l < ZNN_WIDE_LANES; l++)
                if (znn_load32(src + head + 4 * l) < LOW)
                    return false;
            return size - head == 4 * ZNN_WIDE_LANES;
        }
        for (unsigned i = 0; i < freq[s]; i++, at++)
            slots[at] = s | freq[s] << 8 | i << 20;
    }
    uint32_t x[ZNN_WIDE_LANES];
    for (unsigned l = 0; l < ZNN_WIDE_LANES; l++)
        x[l] = znn_load32(src + head + 4 * l);
    const uint8_t *p = src + head + 4 * ZNN_WIDE_LANES, *end = src + size;
    size_t rows = n / ZNN_WIDE_LANES, done;
#if ZNN_X86
    if (znn_cpu_isa() == ZNN_ISA_AVX512)
        p = znn_wide_rows_avx512(dst, rows, x, slots, p, end, &done);
    else
#endif
        p = decode_rows(dst, rows, x, slots, p, end, &done);
    for (size_t i = done * ZNN_WIDE_LANES; i < n; i++) {
        uint32_t *state = &x[i % ZNN_WIDE_LANES];
        const uint32_t slot = slots[*state % SLOTS];
        dst[i] = (uint8_t)slot;
        *state = (slot >> 8 & (SLOTS - 1)) * (*state >> ZNN_WIDE_BITS) + (slot >> 20);
        if (*state < LOW) {
            if (end - p < 2)
                return false;
            *state = *state << 16 | znn_load16(p);
            p += 2;
        }
    }
    return p == end;
}
