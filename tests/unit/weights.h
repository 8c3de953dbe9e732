/* Content for tests of chunks: numbers of every float dtype, with what each coder is made for. */
#ifndef WEIGHTS_H
#define WEIGHTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "chunk/elements.h"

static uint64_t random_state;

static inline uint32_t random_number(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static inline uint32_t random_below(uint32_t limit)
{
    return (uint32_t)((uint64_t)random_number() * limit >> 31);
}

static inline void fill_random(uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        p[i] = (uint8_t)random_number();
}

/* Memory of exactly this size, so that sanitizers see what lies beyond it. */
static inline void *room(size_t size)
{
    void *p = malloc(size + !size);
    assert_non_null(p);
    return p;
}

typedef enum { WEIGHTS, NOISE, ONE, TAIL, FAR, DROPPED, KINDS } kind;

/* n bytes of numbers; what is left after whole elements is noise. */
static inline void fill_content(uint8_t *content, size_t n, znn_dtype dtype, kind k)
{
    const unsigned size = znn_dtype_size(dtype), bits = znn_exponent_bits(dtype), mantissa = 8 * size - 1 - bits;
    const unsigned centre = (1u << bits) * 3 / 4, mask = (1u << bits) - 1;
    const unsigned dropped = k == DROPPED ? random_below(mantissa + 1) : 0;
    fill_random(content, n);
    for (size_t i = 0; k != NOISE && i + size <= n; i += size) {
        unsigned exponent = centre - (unsigned)__builtin_ctz(random_number() | 1u << 20);
        if (k == ONE)
            exponent = centre;
        else if (k == TAIL && random_below(4) == 0)
            exponent = centre - random_below(40);
        else if (k == FAR && random_below(30) == 0)
            exponent = random_number();
        uint64_t v = znn_load_element(content + i, size);
        v = (v & ~((uint64_t)mask << mantissa)) | (uint64_t)(exponent & mask) << mantissa;
        v = v >> dropped << dropped;
        znn_store_element(content + i, size, v);
    }
}

static const znn_dtype dtypes[] = {ZNN_F8_E4M3, ZNN_F8_E5M2, ZNN_F16, ZNN_BF16, ZNN_F32, ZNN_F64};

#endif
