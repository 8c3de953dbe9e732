/* XXH3's long loop in registers, for code that has the content there anyway:
 * 16 stripes of 64 bytes are a block of 1024, and a scramble ends it. Names and
 * constants are those of xxHash's doc/xxhash_spec.md. */
#ifndef ZNN_HASH_AVX512_H
#define ZNN_HASH_AVX512_H

#include <immintrin.h>
#include <stdint.h>

/* The secret of each stripe, where a load crosses no line. Not within znn_hash_block, since compilers keep a struct
 * with an array in memory, and the accumulators must be in registers. */
typedef struct {
    _Alignas(64) uint8_t of[16][64];
} znn_hash_secrets;

typedef struct {
    __m512i products, sums; /* the accumulators: products + sums with neighbours swapped */
    const znn_hash_secrets *secrets;
    const uint8_t *last; /* the secret of a block's end */
} znn_hash_block;

/* secret and accumulators: what znn_hasher_take gives. secrets: room for as long as h is used. */
static inline void znn_hash_block_begin(znn_hash_block *h, znn_hash_secrets *secrets, const uint8_t *secret,
                                        const uint64_t acc[8])
{
    for (unsigned stripe = 0; stripe < 16; stripe++)
        _mm512_store_si512(secrets->of[stripe], _mm512_loadu_si512(secret + 8 * stripe));
    h->secrets = secrets;
    h->last = secret + 128;
    h->products = _mm512_loadu_si512(acc);
    h->sums = _mm512_setzero_si512();
}

static inline __attribute__((always_inline)) void znn_hash_stripe(znn_hash_block *h, __m512i data, unsigned stripe)
{
    __m512i key = _mm512_xor_si512(data, _mm512_load_si512(h->secrets->of[stripe]));
    h->products = _mm512_add_epi64(h->products, _mm512_mul_epu32(key, _mm512_srli_epi64(key, 32)));
    h->sums = _mm512_add_epi64(h->sums, data);
}

static inline __attribute__((always_inline)) void znn_hash_end_block(znn_hash_block *h)
{
    const __m512i prime = _mm512_set1_epi32((int)0x9E3779B1u); /* PRIME32_1 */
    __m512i acc = _mm512_add_epi64(h->products, _mm512_shuffle_epi32(h->sums, (_MM_PERM_ENUM)0x4e));
    /* 0x96: the exclusive or of three */
    acc = _mm512_ternarylogic_epi32(acc, _mm512_srli_epi64(acc, 47), _mm512_loadu_si512(h->last), 0x96);
    __m512i high = _mm512_mul_epu32(_mm512_srli_epi64(acc, 32), prime);
    h->products = _mm512_add_epi64(_mm512_mul_epu32(acc, prime), _mm512_slli_epi64(high, 32));
    h->sums = _mm512_setzero_si512();
}

#endif
