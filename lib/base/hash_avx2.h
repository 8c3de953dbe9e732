/* XXH3's long loop for content that is made in the cache, block by block of 1024
 * bytes: without the library's keeping of what may be the end. Names and
 * constants are those of xxHash's doc/xxhash_spec.md. */
#ifndef ZNN_HASH_AVX2_H
#define ZNN_HASH_AVX2_H

#include "base/shuffles_avx2.h"

#define ZNN_HASH_BLOCK 1024

/* acc: the accumulators, which go on by one block. */
ZNN_INLINE void znn_hash_block_avx2(uint64_t acc[8], const uint8_t *secret, const uint8_t *data)
{
    const __m256i prime = _mm256_set1_epi32((int)0x9E3779B1u); /* PRIME32_1 */
    uint8_t *const to = (uint8_t *)(void *)acc;
    __m256i products[2] = {znn_load(to), znn_load(to + 32)}, sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (unsigned stripe = 0; stripe < 16; stripe++)
        for (unsigned half = 0; half < 2; half++) {
            __m256i v = znn_load(data + 64 * stripe + 32 * half);
            __m256i key = _mm256_xor_si256(v, znn_load(secret + 8 * stripe + 32 * half));
            products[half] = _mm256_add_epi64(products[half], _mm256_mul_epu32(key, _mm256_srli_epi64(key, 32)));
            sums[half] = _mm256_add_epi64(sums[half], v); /* its neighbours are swapped at the end */
        }
    for (unsigned half = 0; half < 2; half++) {
        __m256i a = _mm256_add_epi64(products[half], _mm256_shuffle_epi32(sums[half], 0x4e));
        a = _mm256_xor_si256(_mm256_xor_si256(a, _mm256_srli_epi64(a, 47)), znn_load(secret + 128 + 32 * half));
        __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), prime);
        znn_store(to + 32 * half, _mm256_add_epi64(_mm256_mul_epu32(a, prime), _mm256_slli_epi64(high, 32)));
    }
}

#endif
