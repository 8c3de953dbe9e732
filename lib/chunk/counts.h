/*
 * How often each symbol comes: what the encoder chooses its table by. It is the first
 * to go over a chunk, so the checksum is made on the way: counting waits for the
 * first-level cache, hashing for memory.
 */
#ifndef ZNN_COUNTS_H
#define ZNN_COUNTS_H

#include "base/hash.h"

#define ZNN_COUNT_RUN 64 /* elements counted in one place */

/* counts[] of the top `bits` below the sign, of one run in every `every` (a power of
 * two, at most 4), and of all elements after the last whole `every` runs. Returns how many were
 * counted. hasher: fresh, goes over all elements; or NULL. counts: znn_counts_room(bits) of them. */
size_t znn_count_scalar(uint32_t *counts, unsigned bits, const uint8_t *src, size_t elements, unsigned size,
                        unsigned every, znn_hasher *hasher);
size_t znn_count_avx2(uint32_t *counts, unsigned bits, const uint8_t *src, size_t elements, unsigned size,
                      unsigned every, znn_hasher *hasher);
size_t znn_count_avx512(uint32_t *counts, unsigned bits, const uint8_t *src, size_t elements, unsigned size,
                        unsigned every, znn_hasher *hasher);

/* Some tables are not a power of two apart, so that they do not share the cache's sets. */
#define ZNN_COUNTS_APART 48
#define ZNN_COUNTS_PAIRED 6 /* bits; as many of one-byte elements are counted two at once */

static inline size_t znn_counts_room(unsigned bits)
{
    return ZNN_MAX(4 * (((size_t)1 << bits) + ZNN_COUNTS_APART),
                   64 + 2 * (((size_t)1 << 2 * ZNN_COUNTS_PAIRED) + ZNN_COUNTS_APART));
}

#endif
