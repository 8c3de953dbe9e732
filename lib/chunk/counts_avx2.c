#define COUNT znn_count_avx2
#define HASH_BLOCK ZNN_HASH_BLOCK
#include "base/hash_avx2.h"
#include "chunk/counts.h"

typedef struct {
    uint64_t acc[8];
    const uint8_t *secret;
} hashing;

static inline void hashing_begin(hashing *h, const znn_hasher *hasher)
{
    h->secret = znn_hasher_take(hasher, h->acc);
}

ZNN_INLINE void hashing_block(hashing *h, const uint8_t *data)
{
    znn_hash_block_avx2(h->acc, h->secret, data);
}

static inline void hashing_end(const hashing *h, znn_hasher *hasher, size_t bytes)
{
    if (bytes)
        znn_hasher_resume(hasher, h->acc, bytes);
}

#include "chunk/counts_loop.h"
