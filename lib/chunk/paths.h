/*
 * One table of functions for each instruction set: what float.c calls. The
 * bytes are the same whichever is used; tests run each against the scalar one.
 * A function that a path does not have of its own is the scalar one, or NULL
 * where a comment says so.
 */
#ifndef ZNN_PATHS_H
#define ZNN_PATHS_H

#include "base/cpu.h"
#include "chunk/counts.h"
#include "chunk/fields.h"
#include "chunk/fused.h"
#include "entropy/narrow.h"

typedef struct {
    size_t (*count)(uint32_t *counts, unsigned bits, const uint8_t *src, size_t elements, unsigned size, unsigned every,
                    znn_hasher *hasher);
    size_t (*narrow_encode)(const znn_narrow_table *table, unsigned lanes, const uint8_t *codes, size_t rows,
                            const uint16_t *initial, uint8_t *dst_end);
    void (*narrow_decode)(znn_narrow_decoder *decoder, uint8_t *out, size_t rows);
    bool (*escapes_read)(uint8_t *indices, const znn_narrow_table *table, size_t count, const uint8_t *src);

    /* The next three are for layouts that `knows` is true for; NULL with it. */
    bool (*knows)(const znn_fields *f);
    void (*split)(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                  uint8_t *const planes[ZNN_PLANES_MAX]);
    /* split for the context coder; or NULL. */
    void (*split_contexts)(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                           uint8_t *const planes[ZNN_PLANES_MAX]);
    void (*join)(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *indices, const znn_symbols *symbols,
                 const uint8_t *const planes[ZNN_PLANES_MAX]);
    /* join for codes that are bytes, of the highest levels; or NULL. */
    void (*join_bytes)(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *codes,
                       const uint16_t by_code[256], const uint8_t *const planes[ZNN_PLANES_MAX]);
    /* Up to `groups` groups in one loop; returns how many, maybe none. NULL: block by block. */
    size_t (*fused)(znn_fused *fused, size_t groups);
} znn_paths;

/* The paths of znn_cpu_isa(). */
const znn_paths *znn_paths_chosen(void);

#endif
