#define COUNT znn_count_avx512
#define HASH_BLOCK 1024
#include "base/hash_avx512.h"
#include "chunk/counts.h"

typedef struct {
    znn_hash_block block;
    znn_hash_secrets secrets;
} hashing;

static inline void hashing_begin(hashing *h, const znn_hasher *hasher)
{
    uint64_t acc[8];
    const uint8_t *secret = znn_hasher_take(hasher, acc);
    znn_hash_block_begin(&h->block, &h->secrets, secret, acc);
}

static inline __attribute__((always_inline)) void hashing_block(hashing *h, const uint8_t *data)
{
#pragma GCC unroll 16
    for (unsigned stripe = 0; stripe < HASH_BLOCK / 64; stripe++)
        znn_hash_stripe(&h->block, _mm512_loadu_si512(data + 64 * stripe), stripe);
    znn_hash_end_block(&h->block);
}

static inline void hashing_end(const hashing *h, znn_hasher *hasher, size_t bytes)
{
    uint64_t acc[8];
    _mm512_storeu_si512(acc, h->block.products);
    if (bytes)
        znn_hasher_resume(hasher, acc, bytes);
}

#include "chunk/counts_loop.h"
