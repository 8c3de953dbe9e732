/* XXH3, 64 bits, seed 0 (xxHash's doc/xxhash_spec.md). */
#ifndef ZNN_HASH_H
#define ZNN_HASH_H

#include "base/base.h"

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

uint64_t znn_hash(const void *data, size_t size);

/* Whether a file's checksum is the one that was computed. A build for fuzzing
 * takes any: what is behind a checksum would hardly ever be reached. */
static inline bool znn_checksum_fits(uint64_t found, uint64_t computed)
{
#ifdef ZNN_FUZZ
    (void)found, (void)computed;
    return true;
#else
    return found == computed;
#endif
}

/* In parts. */
typedef XXH3_state_t znn_hasher;
void znn_hasher_begin(znn_hasher *hasher);
void znn_hasher_update(znn_hasher *hasher, const void *data, size_t size);
uint64_t znn_hasher_end(const znn_hasher *hasher);

/* For a loop that hashes whole blocks of 1024 bytes itself: take the accumulators
 * out of a fresh hasher (returns XXH3's secret), and put them back with the bytes
 * that they cover; at least 64 bytes more must follow. */
const uint8_t *znn_hasher_take(const znn_hasher *hasher, uint64_t acc[8]);
void znn_hasher_resume(znn_hasher *hasher, const uint64_t acc[8], uint64_t bytes);

/* The two that go over much data, on x86-64 with AVX2 or AVX-512; hash.c chooses. */
uint64_t znn_hash_avx2(const void *data, size_t size);
void znn_hasher_update_avx2(znn_hasher *hasher, const void *data, size_t size);
uint64_t znn_hash_avx512(const void *data, size_t size);
void znn_hasher_update_avx512(znn_hasher *hasher, const void *data, size_t size);

#endif
