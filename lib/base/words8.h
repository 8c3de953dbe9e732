/* Eight numbers of 16 bits at once, in the compiler's own vector types: it makes of them what the
 * machine has, on any machine. */
#ifndef ZNN_WORDS8_H
#define ZNN_WORDS8_H

#include "base/base.h"

typedef uint16_t znn_words8 __attribute__((vector_size(16)));
typedef uint8_t znn_bytes8 __attribute__((vector_size(8)));

/* How they are passed differs where SSE is not taken for granted; but all that does so is inlined. */
#pragma GCC diagnostic ignored "-Wpsabi"

static inline __attribute__((always_inline)) znn_words8 znn_words8_load(const uint16_t *p)
{
    znn_words8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline __attribute__((always_inline)) void znn_words8_store(uint16_t *p, znn_words8 v)
{
    memcpy(p, &v, sizeof v);
}

/* From bytes, and to the low bytes. */
static inline __attribute__((always_inline)) znn_words8 znn_words8_of(const uint8_t *p)
{
    znn_bytes8 v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, znn_words8);
}

static inline __attribute__((always_inline)) void znn_words8_low(uint8_t *p, znn_words8 v)
{
    const znn_bytes8 low = __builtin_convertvector(v, znn_bytes8);
    memcpy(p, &low, sizeof low);
}

#endif
