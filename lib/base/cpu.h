/* What the processor can do, asked once; and the few things every instruction
 * set does in its own way. */
#ifndef ZNN_CPU_H
#define ZNN_CPU_H

#include "base/base.h"

typedef enum { ZNN_ISA_SCALAR = 0, ZNN_ISA_NEON = 1, ZNN_ISA_AVX2 = 2, ZNN_ISA_AVX512 = 3 } znn_isa_level;

#if defined(__x86_64__)
#define ZNN_X86 1
#else
#define ZNN_X86 0
#endif
#if defined(__aarch64__) && !ZNN_BIG_ENDIAN
#define ZNN_ARM64 1
#else
#define ZNN_ARM64 0
#endif

/* The highest level that the processor has and ZNN_ISA allows. */
znn_isa_level znn_cpu_isa(void);
/* From now on this one, for tests; false if the processor does not have it. No
 * other thread may be in the library. */
bool znn_cpu_isa_use(znn_isa_level isa);

/* Fetch what will be read some 15 rows later: the hardware's own prefetching does not keep up with several streams at
 * the speed of vectors, above all where a chunk begins. Past the end it does nothing. Always inline: GCC leaves out
 * calls of a function that does no more than this. */
#define ZNN_AHEAD 1024
static inline __attribute__((always_inline)) void znn_prefetch_ahead(const uint8_t *at)
{
    __builtin_prefetch((const void *)((uintptr_t)at + ZNN_AHEAD));
}

#define ZNN_LARGE ((size_t)8 << 20) /* outputs beyond the caches */

/* Copy to memory that will not be read soon, past the caches if `streaming`. */
void znn_copy_out(uint8_t *dst, const uint8_t *src, size_t size, bool streaming);
void znn_copy_out_done(void); /* after the last streaming copy */

#endif
