/* The loop of counts.h, included by one file for each instruction set. They name it (COUNT), and
 * may bring what hashes blocks of HASH_BLOCK bytes: hashing, hashing_begin, hashing_block, hashing_end. */
#include "chunk/counts.h"

#define INLINE static inline __attribute__((always_inline))
#define AHEAD 8192

INLINE uint32_t symbol_of(const uint8_t *p, const unsigned size, unsigned shift, uint32_t mask)
{
    switch (size) {
    case 1: return *p >> shift & mask;
    case 2: return (uint32_t)znn_load16(p) >> shift & mask;
    case 4: return znn_load32(p) >> shift & mask;
    default: return (uint32_t)(znn_load64(p) >> shift) & mask;
    }
}

/* Tables in turns, so that equal neighbours do not wait for each other. */
typedef struct {
    uint32_t *table;
    size_t stride;
    unsigned shift;
    uint32_t mask;
} counter;

INLINE void count_run(const counter *c, const uint8_t *p, const unsigned size, const bool paired)
{
    if (paired) { /* 8 bytes as 4 pairs of 6 bits */
        for (unsigned j = 0; j < ZNN_COUNT_RUN; j += 8) {
            uint64_t bits = znn_load64(p + j) >> c->shift;
            bits = (bits & UINT64_C(0x003f003f003f003f)) | (bits & UINT64_C(0x3f003f003f003f00)) >> 2;
            for (unsigned k = 0; k < 4; k++)
                c->table[k % 2 * c->stride + (bits >> 16 * k & 0xfff)]++;
        }
        return;
    }
    for (unsigned j = 0; j < ZNN_COUNT_RUN; j += 4, p += 4 * size)
        for (unsigned k = 0; k < 4; k++)
            c->table[k * c->stride + symbol_of(p + k * size, size, c->shift, c->mask)]++;
}

INLINE size_t count(uint32_t *counts, unsigned bits, const uint8_t *src, size_t elements, const unsigned size,
                    unsigned every, znn_hasher *hasher, const bool paired)
{
    const size_t step = (size_t)ZNN_COUNT_RUN * every * size, steps = elements * size / step;
    const counter c = {.table = paired ? counts + 64 : counts,
                       .stride = ((size_t)1 << (paired ? 2 * bits : bits)) + ZNN_COUNTS_APART,
                       .shift = 8 * size - 1 - bits,
                       .mask = (1u << bits) - 1};
    for (unsigned k = 0; k < (paired ? 2 : 4); k++)
        memset(c.table + k * c.stride, 0, sizeof *counts << (paired ? 2 * bits : bits));
    const uint8_t *p = src;
    uint32_t i = 0;
#define RUN() count_run(&c, p + ZNN_COUNT_RUN * ((i * 0x9e3779b1u >> 16) & (every - 1)) * size, size, paired)
#ifdef HASH_BLOCK
    if (hasher) {
        /* As many steps at a time as fill blocks. The end is left to XXH3, which wants 64 bytes at least. */
        const size_t piece = ZNN_MAX(step, HASH_BLOCK), end = elements * size;
        hashing h;
        hashing_begin(&h, hasher);
        for (; end - (size_t)(p - src) >= piece + 64;) {
            for (size_t at = 0; at < piece; at += HASH_BLOCK) {
                for (unsigned line = 0; line < HASH_BLOCK; line += 64)
                    __builtin_prefetch((const void *)((uintptr_t)(p + at + line) + AHEAD));
                hashing_block(&h, p + at);
            }
            for (size_t at = 0; at < piece; at += step, p += step, i++)
                RUN();
        }
        hashing_end(&h, hasher, (size_t)(p - src));
        znn_hasher_update(hasher, p, end - (size_t)(p - src));
    }
#else
    if (hasher)
        znn_hasher_update(hasher, src, elements * size);
#endif
    /* Runs far apart are too irregular for the processor to see them coming, and cutting wants all lines soon. */
    for (; i < steps; p += step, i++) {
        for (size_t line = 0; line < step && !hasher; line += 64)
            __builtin_prefetch((const void *)((uintptr_t)(p + line) + AHEAD));
        RUN();
    }
#undef RUN
    if (paired) {
        memset(counts, 0, sizeof *counts << bits);
        for (uint32_t high = 0; high < 1u << bits; high++) {
            const uint32_t *row = c.table + ((size_t)high << bits);
            uint32_t sum = 0;
            for (uint32_t low = 0; low < 1u << bits; low++) {
                const uint32_t here = row[low] + row[c.stride + low];
                counts[low] += here;
                sum += here;
            }
            counts[high] += sum;
        }
    } else {
        for (uint32_t s = 0; s <= c.mask; s++)
            counts[s] += counts[s + c.stride] + counts[s + 2 * c.stride] + counts[s + 3 * c.stride];
    }
    size_t counted = (size_t)i * ZNN_COUNT_RUN;
    for (; p < src + elements * size; p += size, counted++)
        counts[symbol_of(p, size, c.shift, c.mask)]++;
    return counted;
}

size_t COUNT(uint32_t *counts, unsigned bits, const uint8_t *src, size_t elements, unsigned size, unsigned every,
             znn_hasher *hasher)
{
    switch (size) {
    case 1:
        if (bits == ZNN_COUNTS_PAIRED && elements >= 65536)
            return count(counts, ZNN_COUNTS_PAIRED, src, elements, 1, every, hasher, true);
        return count(counts, bits, src, elements, 1, every, hasher, false);
    case 2: return count(counts, bits, src, elements, 2, every, hasher, false);
    case 4: return count(counts, bits, src, elements, 4, every, hasher, false);
    default: return count(counts, bits, src, elements, 8, every, hasher, false);
    }
}
