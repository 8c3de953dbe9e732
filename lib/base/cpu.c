#include "base/cpu.h"

#include <stdatomic.h>
#include <stdlib.h>

#if ZNN_X86
#include <immintrin.h>
#endif

static const char *const names[] = {"scalar", "neon", "avx2", "avx512"};

static znn_isa_level highest(void)
{
#if ZNN_X86
    __builtin_cpu_init();
    const bool avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2"))
        return ZNN_ISA_AVX512;
    if (avx2)
        return ZNN_ISA_AVX2;
#elif ZNN_ARM64
    return ZNN_ISA_NEON; /* every such processor has it */
#endif
    return ZNN_ISA_SCALAR;
}

static bool has(znn_isa_level isa)
{
    return isa <= highest() && (isa == ZNN_ISA_SCALAR || (isa == ZNN_ISA_NEON) == ZNN_ARM64);
}

static znn_isa_level detect(void)
{
    const char *wish = getenv("ZNN_ISA");
    for (int i = ZNN_ISA_SCALAR; wish && i <= ZNN_ISA_AVX512; i++)
        if (strcmp(wish, names[i]) == 0 && has((znn_isa_level)i))
            return (znn_isa_level)i;
    return highest();
}

static _Atomic int known = -1; /* the same answer whoever asks first */

bool znn_cpu_isa_use(znn_isa_level isa)
{
    if (has(isa))
        atomic_store_explicit(&known, (int)isa, memory_order_relaxed);
    return has(isa);
}

znn_isa_level znn_cpu_isa(void)
{
    int isa = atomic_load_explicit(&known, memory_order_relaxed);
    if (isa < 0) {
        isa = (int)detect();
        atomic_store_explicit(&known, isa, memory_order_relaxed);
    }
    return (znn_isa_level)isa;
}

const char *znn_isa(void)
{
    return names[znn_cpu_isa()];
}

void znn_copy_out(uint8_t *dst, const uint8_t *src, size_t size, bool streaming)
{
#if ZNN_X86
    /* Stores that bypass the caches save reading the lines they overwrite. */
    if (streaming && size >= 512) {
        size_t head = (64 - ((uintptr_t)dst & 63)) & 63;
        memcpy(dst, src, head);
        dst += head;
        src += head;
        size -= head;
        for (; size >= 64; size -= 64, dst += 64, src += 64)
            for (unsigned i = 0; i < 64; i += 16)
                _mm_stream_si128((__m128i *)(void *)(dst + i),
                                 _mm_loadu_si128((const __m128i *)(const void *)(src + i)));
    }
#else
    (void)streaming;
#endif
    memcpy(dst, src, size);
}

void znn_copy_out_done(void)
{
#if ZNN_X86
    _mm_sfence(); /* so that whoever is told of the result sees it */
#endif
}
