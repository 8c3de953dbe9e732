/* The methods that chunk.c chooses among. An encoder returns the payload's
 * size, or 0 if the method does not apply or would not be smaller than limit. */
#ifndef ZNN_METHODS_H
#define ZNN_METHODS_H

#define ZSTD_STATIC_LINKING_ONLY /* for contexts in the caller's memory */
#include <zstd.h>

#include "base/hash.h"
#include "chunk/chunk.h"
#include "chunk/fields.h"

/* A wide-coded plane, or none: see plane.c. */
typedef enum { ZNN_PLANE_RAW = 0, ZNN_PLANE_CONSTANT = 1, ZNN_PLANE_WIDE = 2, ZNN_PLANE_ZSTD = 3 } znn_plane_method;

#define ZNN_CODES_ROOM (32u << 10) /* bytes; the decoder's blocks and tails are half of it at most */

struct znn_chunk_coder {
    znn_allocator allocator;
    size_t chunk_max;
    ZSTD_CCtx *cctx;
    ZSTD_DCtx *dctx;
    uint8_t *symbols;    /* chunk_max + a row. Decoding: narrow codes of a few blocks at a time */
    uint16_t *symbols16; /* encoding: as many */
    uint8_t *planes;     /* chunk_max + 8 groups */
    uint8_t *escaped;    /* chunk_max + a row: indices that the narrow coder escaped;
                            decoding: in symbols, from CODES_ROOM on */
    uint8_t *own_escaped;
    uint8_t *stream; /* encoding: room for one coded plane */
    uint8_t *block;  /* decoding: output on its way to memory */
};

/* A zstd frame of src at dst; its size, 0 if it failed or does not fit into room. */
size_t znn_zstd_encode(znn_chunk_coder *coder, uint8_t *dst, size_t room, const uint8_t *src, size_t n, int level);

size_t znn_plane_encode(znn_chunk_coder *coder, uint8_t *dst, const uint8_t *src, size_t n, bool numbers, int level,
                        znn_plane_method *method);
/* Decode a plane of n bytes from the begin of src; *used bytes of it were the
 * plane. Where it is raw, *plane points into src, else to dst. */
bool znn_plane_decode(znn_chunk_coder *coder, uint8_t *dst, size_t n, const uint8_t *src, size_t size,
                      znn_plane_method method, const uint8_t **plane, size_t *used);

/* hasher: fresh, has gone over all of src after the call, whatever that returns; or NULL. */
size_t znn_float_encode(znn_chunk_coder *coder, uint8_t *dst, size_t limit, const uint8_t *src, size_t n,
                        znn_dtype dtype, int level, znn_hasher *hasher);
znn_status znn_float_decode(znn_chunk_coder *coder, uint8_t *dst, size_t n, const uint8_t *src, size_t size,
                            unsigned element_size, znn_hasher *hasher, bool large);

size_t znn_groups_encode(znn_chunk_coder *coder, uint8_t *dst, size_t limit, const uint8_t *src, size_t n,
                         unsigned element_size, int level);
znn_status znn_groups_decode(znn_chunk_coder *coder, uint8_t *dst, size_t n, const uint8_t *src, size_t size,
                             unsigned element_size);

#endif
