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

/* Copy to memory that will not be read soon, past the caches if `streaming`. */
void znn_copy_out(uint8_t *dst, const uint8_t *src, size_t size, bool streaming);
void znn_copy_out_done(void); /* after the last streaming copy */

#endif
