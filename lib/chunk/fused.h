/*
 * Decoding and joining in one loop: symbols, planes and checksum meet in
 * registers, and finished elements leave for memory while the next ones are
 * computed. Which is what makes decompression faster than memcpy; the same
 * result comes, slower, from narrow.h and fields.h.
 */
#ifndef ZNN_FUSED_H
#define ZNN_FUSED_H

#include "base/hash.h"
#include "chunk/fields.h"
#include "entropy/narrow.h"

/* What is put right after decoding: the elements whose symbol no table knows.
 * Each is a u16 of distance from the position after the one before, and a u16 symbol;
 * 65535 there only advances. */
typedef struct {
    const uint8_t *next, *end;
    uint64_t position;
    unsigned symbol;
    bool pending; /* position and symbol are those of the next patch */
    bool failed;
} znn_patches;

void znn_patches_begin(znn_patches *p, const uint8_t *src, size_t size);
/* Patch `count` elements at dst, the first of which has the position `first`. */
void znn_patches_apply(znn_patches *p, const znn_fields *f, uint8_t *dst, size_t first, size_t count);

typedef struct {
    const znn_fields *fields;
    const znn_symbols *symbols;
    znn_narrow_decoder *decoder;           /* of 256 lanes */
    const uint8_t *planes[ZNN_PLANES_MAX]; /* moved on */
    znn_patches *patches;
    uint8_t *dst;       /* moved on */
    znn_hasher *hasher; /* fresh, or NULL. After the call as after an update */
    bool streaming;     /* past the caches */
} znn_fused;

/* Decode up to `groups` groups; returns how many, maybe none. A vector may be
 * read at the last group's place in every plane. */
size_t znn_fused_decode_scalar(znn_fused *fused, size_t groups);
size_t znn_fused_decode_avx2(znn_fused *fused, size_t groups);
size_t znn_fused_decode_avx512(znn_fused *fused, size_t groups);

#endif
