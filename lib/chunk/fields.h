/*
 * How an element is cut into a symbol and bit planes, and put together again.
 *
 * An element of width bits, as an unsigned number, first loses its `drop` low
 * bits, zero in the whole chunk. What is left, of `bits` bits, is
 *     sign | symbol (exponent and the top mantissa bits) | the other mantissa bits
 * and becomes the symbol, of symbol_bits, and the rest: the other mantissa bits
 * with the sign below them. The rest's low bytes are byte planes 0, 1, ...; its
 * top `packed_bits` bits (less than 8), if any, are one more plane, packed with no gaps,
 * least significant bit first.
 *
 * Planes are in lane order: of each group of 64 elements of E bytes, position
 * E * i + q holds element (64 / E) * q + i, so that vectors of bytes become
 * vectors of elements by shifts and masks alone.
 */
#ifndef ZNN_FIELDS_H
#define ZNN_FIELDS_H

#include "base/base.h"

#define ZNN_GROUP 64
#define ZNN_PLANES_MAX 8

typedef struct {
    unsigned element_size; /* bytes */
    unsigned drop;
    unsigned bits;         /* width - drop */
    unsigned symbol_bits;
    unsigned rest_bits;    /* bits - symbol_bits, the sign included */
    unsigned byte_planes;
    unsigned packed_bits;  /* 0: no packed plane */
    unsigned planes;
    unsigned base;         /* a symbol is base + its byte, modulo 2^symbol_bits */
} znn_fields;

/* False if no such cut exists. */
bool znn_fields_init(znn_fields *fields, unsigned element_size, unsigned drop, unsigned symbol_bits, unsigned base);

/* Exponent bits of a float dtype; 0 for other dtypes. */
unsigned znn_exponent_bits(znn_dtype dtype);

/* Bytes that one group takes in plane p. */
static inline size_t znn_plane_group_size(const znn_fields *f, unsigned p)
{
    return p < f->byte_planes ? ZNN_GROUP : 8 * (size_t)f->packed_bits;
}

/* The element at a position of the lane order. */
static inline size_t znn_element_at(const znn_fields *f, size_t position)
{
    size_t j = position % ZNN_GROUP;
    return position - j + j % f->element_size * (ZNN_GROUP / f->element_size) + j / f->element_size;
}

/* Cut `groups` whole groups at src. symbols16 takes whole symbols (base not
 * subtracted), planes[p] plane p, packed plane too. */
void znn_fields_split(const znn_fields *f, const uint8_t *src, size_t groups, uint16_t *symbols16,
                      uint8_t *const planes[ZNN_PLANES_MAX]);

/* Put `groups` groups together from symbol bytes and planes. */
void znn_fields_join(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *symbols,
                     const uint8_t *const planes[ZNN_PLANES_MAX]);

/* The same for the layouts that matter, by AVX-512; false for the others. */
bool znn_fields_join_avx512(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *symbols,
                            const uint8_t *const planes[ZNN_PLANES_MAX]);

/* Which symbol byte a symbol gets, by the low 6 bits of its byte: one vector's look-up. */
typedef struct {
    uint16_t owner[64]; /* the symbol that has these bits, 0xffff if none */
    uint8_t common;     /* the byte that all other symbols, the escapes, get */
} znn_symbol_map;

/* znn_fields_split for the layouts that matter, by AVX-512, with the map
 * applied: symbols takes symbol bytes, and escapes their positions (high 48
 * bits) and symbols (low 16). False for other layouts. */
bool znn_fields_split_avx512(const znn_fields *f, const uint8_t *src, size_t groups, const znn_symbol_map *map,
                             uint8_t *symbols, uint8_t *const planes[ZNN_PLANES_MAX], uint64_t *escapes,
                             size_t *escapes_count);

/* Replace the symbol of element `index` of dst. */
void znn_fields_patch(const znn_fields *f, uint8_t *dst, size_t index, unsigned symbol);

#endif
