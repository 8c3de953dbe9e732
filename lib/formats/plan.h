/*
 * Where the content of a stream is cut into chunks, and each chunk's dtype.
 *
 * The plan is made in one pass from the bytes themselves: a safetensors header
 * is parsed and its tensors followed; anything else is probed window by window.
 * It depends on nothing but the content (not on how the caller's buffers were
 * split, nor on threads), so that the same content gives the same frame.
 */
#ifndef ZNN_PLAN_H
#define ZNN_PLAN_H

#include "base/base.h"

typedef struct {
    size_t size;         /* bytes, 1 .. chunk_max */
    znn_dtype dtype;     /* never ZNN_AUTO */
    bool starts_segment; /* the dtype, or the tensor, is not that of the chunk before */
} znn_piece;

typedef struct znn_plan znn_plan;

/* chunk_max: bytes, a power of two from 64 KiB to 4 MiB. dtype: ZNN_AUTO to
 * find it, else every piece is of that dtype (one segment). NULL if memory fails. */
znn_plan *znn_plan_new(znn_dtype dtype, size_t chunk_max, const znn_allocator *allocator);
void znn_plan_free(znn_plan *plan);

/* Bytes of the stream that znn_plan_next wants to see for its next answer,
 * unless the stream ends before. At most 2 * chunk_max, except at the begin of
 * a safetensors file, whose header (at most 8 MiB is looked at) must be there. */
size_t znn_plan_wants(const znn_plan *plan);

/* The next piece of the stream. src[0, available) are the bytes from the end of
 * the piece before on; available is at least znn_plan_wants(), or the stream
 * ends with them (at_end). available must not be 0. With `at_end` false the
 * answer is the same for any larger `available`. May raise what
 * znn_plan_wants() says and return a piece of size 0: call again with more. */
znn_status znn_plan_next(znn_plan *plan, const uint8_t *src, size_t available, bool at_end, znn_piece *piece);

#endif
