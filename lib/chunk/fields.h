/*
 * How an element is cut into a symbol and byte groups, and put together again.
 *
 * An element of width bits, as an unsigned number, first loses its `drop` low
 * bits, zero in the whole chunk. What is left, of `bits` bits, is
 *     sign | symbol (exponent and the top mantissa bits) | the other mantissa bits
 * Its low 8 * byte_planes mantissa bits are byte planes as they stand in memory.
 * The mantissa bits above them, fewer than 8, with the sign on top of them, are
 * the top: top_bits of an element, packed with no gaps, least significant bit first.
 *
 * Planes are in lane order. Of each group of 64 elements of E bytes, position
 * 16 j + i (i < 16) holds element (64 / E) q + (16 / E) j + r, with
 * q = i div (16 / E) and r = i mod (16 / E): the order in which the byte
 * interleaves of SIMD registers, 128 bits at a time, give elements from bytes.
 */
#ifndef ZNN_FIELDS_H
#define ZNN_FIELDS_H

#include "base/base.h"

#define ZNN_GROUP 64
#define ZNN_PLANES_MAX 8
#define ZNN_TOP_PLANE 7 /* index of the top in arrays of planes; byte planes are 0 .. 6 */

typedef struct {
    unsigned element_size; /* bytes */
    unsigned drop;
    unsigned bits; /* width - drop */
    unsigned symbol_bits;
    unsigned byte_planes; /* at most 7 */
    unsigned top_bits;    /* 1 .. 8 */
} znn_fields;

/* False if no such cut exists. */
bool znn_fields_init(znn_fields *fields, unsigned element_size, unsigned drop, unsigned symbol_bits);

/* Exponent bits of a float dtype; 0 for other dtypes. */
unsigned znn_exponent_bits(znn_dtype dtype);

/* Bytes that one group takes in plane p. */
static inline size_t znn_plane_group_size(const znn_fields *f, unsigned p)
{
    return p == ZNN_TOP_PLANE ? 8 * (size_t)f->top_bits : ZNN_GROUP;
}

/* The element at a position of the lane order. */
static inline size_t znn_element_at(const znn_fields *f, size_t position)
{
    const size_t e = f->element_size, run = 16 / e, j = position % ZNN_GROUP / 16, i = position % 16;
    return position / ZNN_GROUP * ZNN_GROUP + ZNN_GROUP / e * (i / run) + run * j + i % run;
}

/* The symbol of every index, of 64: those that a narrow table knows. */
typedef struct {
    uint16_t of[64];
} znn_symbols;

/* Cut `groups` whole groups at src: symbols takes whole symbols, planes[p] plane p. */
void znn_fields_split(const znn_fields *f, const uint8_t *src, size_t groups, uint16_t *symbols,
                      uint8_t *const planes[ZNN_PLANES_MAX]);

/* Every bit of an element that a code or a packed top stands for. */
typedef struct {
    uint64_t symbol[256], top[256];
} znn_join_tables;

/* For codes that are indices, or, if by_index is NULL, any bytes: the symbol of each. */
void znn_fields_tables(znn_join_tables *tables, const znn_fields *f, const znn_symbols *by_index,
                       const uint16_t *by_code);

/* Put `groups` groups together from planes and codes, in lane order. Of the top,
 * 8 bytes may be read beyond the last group. */
void znn_fields_join(const znn_fields *f, const znn_join_tables *tables, uint8_t *dst, size_t groups,
                     const uint8_t *codes, const uint8_t *const planes[ZNN_PLANES_MAX]);

/* Replace the symbol of element `index` of dst. */
void znn_fields_patch(const znn_fields *f, uint8_t *dst, size_t index, unsigned symbol);

/* True if the vector paths know the layout: see layouts.h. */
bool znn_fields_known_scalar(const znn_fields *f);
bool znn_fields_known_neon(const znn_fields *f);
bool znn_fields_known_avx2(const znn_fields *f);
bool znn_fields_known_avx512(const znn_fields *f);

/* znn_fields_join for symbols given as indices, 64 bytes of them readable
 * beyond the end; of planes, a vector may be read past the last group. What stands there has no effect: an element
 * takes the bits of its own place alone, others are shifted out or masked (tests/unit/test_unset.c). */
void znn_fields_join_scalar(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *indices,
                            const znn_symbols *symbols, const uint8_t *const planes[ZNN_PLANES_MAX]);
void znn_fields_join_neon(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *indices,
                          const znn_symbols *symbols, const uint8_t *const planes[ZNN_PLANES_MAX]);
void znn_fields_join_avx2(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *indices,
                          const znn_symbols *symbols, const uint8_t *const planes[ZNN_PLANES_MAX]);
void znn_fields_join_avx512(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *indices,
                            const znn_symbols *symbols, const uint8_t *const planes[ZNN_PLANES_MAX]);

/* Likewise for symbols given as any codes. */
void znn_fields_join_bytes_avx512(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *codes,
                                  const uint16_t by_code[256], const uint8_t *const planes[ZNN_PLANES_MAX]);

/* What the splitter writes beside the planes. */
typedef struct {
    const znn_symbols *symbols;
    const uint8_t *codes; /* by index: what the coder is given, bit 7 set for an escape */
    uint8_t common;       /* the code for symbols that have no index */
    uint8_t *out;         /* codes; 64 bytes beyond the end may be written */
    uint8_t *escaped;     /* the indices of the escapes, in lane order; likewise */
    uint64_t *missing;    /* position << 16 | symbol of those without an index */
    size_t missing_count;
    /* For the context coder instead of symbols, codes and escaped: a code is an index and, below it, two bits of the
     * mantissa. Index 0 is the exponent `first`, any other i is base + i. */
    unsigned base, first;
} znn_split_codes;

/* znn_fields_split with symbols made codes; moves on out and escaped. */
void znn_fields_split_scalar(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                             uint8_t *const planes[ZNN_PLANES_MAX]);
void znn_fields_split_neon(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                           uint8_t *const planes[ZNN_PLANES_MAX]);
void znn_fields_split_avx2(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                           uint8_t *const planes[ZNN_PLANES_MAX]);
void znn_fields_split_avx512(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                             uint8_t *const planes[ZNN_PLANES_MAX]);
/* For the context coder: exponents of at most 8 bits, and tops of at most 7. */
void znn_fields_split_contexts_avx512(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                                      uint8_t *const planes[ZNN_PLANES_MAX]);

#endif
