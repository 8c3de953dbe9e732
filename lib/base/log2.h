/* Logarithms in integers: the same choices on every machine, which floating
 * point would not promise. */
#ifndef ZNN_LOG2_H
#define ZNN_LOG2_H

#include <stdint.h>

/* log2(v), rounded down; v >= 1 */
static inline unsigned znn_log2_floor(uint64_t v)
{
    return 63u - (unsigned)__builtin_clzll(v);
}

/* log2(v) in 1/256 bits, rounded down; v >= 1. Bit by bit, by squaring. */
static inline unsigned znn_log2_256(uint32_t v)
{
    unsigned whole = znn_log2_floor(v);
    uint64_t x = (uint64_t)v << (31 - whole); /* 1.0 = 1 << 31 */
    unsigned result = whole << 8;
    for (unsigned bit = 128; bit; bit >>= 1) {
        x = (x * x) >> 31;
        if (x >> 32) {
            result += bit;
            x >>= 1;
        }
    }
    return result;
}

#endif
