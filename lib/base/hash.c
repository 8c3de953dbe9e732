#define XXH_INLINE_ALL
#include "base/hash.h"

uint64_t znn_hash(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

void znn_hasher_begin(znn_hasher *hasher)
{
    XXH3_64bits_reset(hasher);
}

void znn_hasher_update(znn_hasher *hasher, const void *data, size_t size)
{
    XXH3_64bits_update(hasher, data, size);
}

uint64_t znn_hasher_end(const znn_hasher *hasher)
{
    return XXH3_64bits_digest(hasher);
}
