#define XXH_INLINE_ALL
#include "base/hash.h"

#include "base/cpu.h"

uint64_t znn_hash(const void *data, size_t size)
{
#if ZNN_X86
    if (znn_cpu_isa() == ZNN_ISA_AVX512)
        return znn_hash_avx512(data, size);
    if (znn_cpu_isa() == ZNN_ISA_AVX2)
        return znn_hash_avx2(data, size);
#endif
    return XXH3_64bits(data, size);
}

void znn_hasher_begin(znn_hasher *hasher)
{
    XXH3_64bits_reset(hasher);
}

void znn_hasher_update(znn_hasher *hasher, const void *data, size_t size)
{
#if ZNN_X86
    if (znn_cpu_isa() == ZNN_ISA_AVX512) {
        znn_hasher_update_avx512(hasher, data, size);
        return;
    }
    if (znn_cpu_isa() == ZNN_ISA_AVX2) {
        znn_hasher_update_avx2(hasher, data, size);
        return;
    }
#endif
    XXH3_64bits_update(hasher, data, size);
}

uint64_t znn_hasher_end(const znn_hasher *hasher)
{
    return XXH3_64bits_digest(hasher);
}

const uint8_t *znn_hasher_take(const znn_hasher *hasher, uint64_t acc[8])
{
    memcpy(acc, hasher->acc, sizeof hasher->acc);
    return hasher->extSecret;
}

/* After whole blocks an XXH3 state is its accumulators and the length. What it
 * keeps of earlier bytes, it needs only if less than a stripe follows. */
void znn_hasher_resume(znn_hasher *hasher, const uint64_t acc[8], uint64_t bytes)
{
    memcpy(hasher->acc, acc, sizeof hasher->acc);
    hasher->totalLen = bytes;
}
