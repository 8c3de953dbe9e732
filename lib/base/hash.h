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

/* The two that go over much data, on x86-64 with AVX-512; hash.c chooses. */
uint64_t znn_hash_avx512(const void *data, size_t size);
void znn_hasher_update_avx512(znn_hasher *hasher, const void *data, size_t size);

#endif
