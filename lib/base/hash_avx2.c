/* xxHash compiled for AVX2: it picks its vectors by the compiler's flags. */
#define XXH_INLINE_ALL
#include "base/hash.h"

uint64_t znn_hash_avx2(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

void znn_hasher_update_avx2(znn_hasher *hasher, const void *data, size_t size)
{
    XXH3_64bits_update(hasher, data, size);
}
