/* XXH3, 64 bits, seed 0 (xxHash's doc/xxhash_spec.md). */
#ifndef ZNN_HASH_H
#define ZNN_HASH_H

#include "base/base.h"

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

uint64_t znn_hash(const void *data, size_t size);

/* In parts. */
typedef XXH3_state_t znn_hasher;
void znn_hasher_begin(znn_hasher *hasher);
void znn_hasher_update(znn_hasher *hasher, const void *data, size_t size);
uint64_t znn_hasher_end(const znn_hasher *hasher);

#endif
