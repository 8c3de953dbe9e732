/*
 * fields.h with AVX-512: a group of 64 elements from its planes and indices.
 *
 * Every element is E bytes: zero bytes (dropped bits), byte planes as they are,
 * then the byte where the mantissa's top ends and the symbol begins, and, if the
 * symbol does not end there, one more. A symbol's bits in these two are looked up by
 * its index, the packed top's are put in by masks, and interleaves make elements.
 */
#ifndef ZNN_FIELDS_AVX512_H
#define ZNN_FIELDS_AVX512_H

#include <immintrin.h>

#include "chunk/fields.h"

#define ZNN_INLINE static inline __attribute__((always_inline))

/* What the compiler is to know of a layout. */
typedef struct {
    unsigned size;  /* bytes of an element */
    unsigned bytes; /* byte planes */
    bool two;       /* the symbol ends in the byte after the one where it begins */
    bool shifted;   /* the dropped bits are no whole bytes */
} znn_layout;

/* do_layout(a layout known here) for every one of them. */
#define ZNN_LAYOUTS(do_layout)                                                                                         \
    do_layout(1, 0, false, false)     /* FP8 */                                                                        \
        do_layout(2, 1, false, false) /* FP16 */                                                                       \
        do_layout(2, 0, true, false)  /* BF16 */                                                                       \
        do_layout(2, 0, true, true)   /* and what has fewer bits */                                                    \
        do_layout(4, 2, true, false)  /* FP32 */                                                                       \
        do_layout(4, 1, true, true)   /* that holds FP16 */                                                            \
        do_layout(4, 0, true, false)  /* that holds BF16 */                                                            \
        do_layout(4, 0, true, true)   /* and fewer bits */                                                             \
        do_layout(8, 6, true, false)  /* FP64 */

static inline znn_layout znn_layout_of(const znn_fields *f)
{
    return (znn_layout){.size = f->element_size,
                        .bytes = f->byte_planes,
                        .two = (f->bits - 1) / 8 == f->byte_planes + 1,
                        .shifted = f->drop % 8 != 0};
}

/* True if the layout's bytes are all there is between the dropped bits and the sign. */
static inline bool znn_layout_is(const znn_fields *f, znn_layout known)
{
    const znn_layout l = znn_layout_of(f);
    return l.size == known.size && l.bytes == known.bytes && l.two == known.two && l.shifted == known.shifted &&
           (f->bits - 1) / 8 == f->byte_planes + l.two;
}

typedef struct {
    __m512i spread;                  /* 8 values of top_bits bits to 8 bytes */
    __m512i top_window, sign_window; /* bits of the packed top that go to each byte */
    __m512i top_mask, sign_mask;
    __m512i first, second; /* by index: the symbol's bits in its bytes */
    __m128i shift;
} znn_join_vectors;

/* symbols: NULL for symbols that are not looked up by index */
ZNN_INLINE znn_join_vectors znn_join_vectors_load(const znn_fields *f, const znn_symbols *symbols)
{
    _Alignas(64) uint8_t spread[64], top[64], sign[64], first[64], second[64];
    const unsigned bits = f->top_bits, sign_bit = (f->bits - 1) % 8;
    for (unsigned i = 0; i < 64; i++) {
        spread[i] = (uint8_t)(bits * (i / 8) + i % 8);
        top[i] = (uint8_t)(bits * (i % 8));
        sign[i] = (uint8_t)((bits * (i % 8) + bits - 1 - sign_bit) & 63);
        const unsigned symbol = symbols ? symbols->of[i] << (bits - 1) : 0;
        first[i] = (uint8_t)symbol;
        second[i] = (uint8_t)(symbol >> 8);
    }
    return (znn_join_vectors){.spread = _mm512_load_si512(spread),
                              .top_window = _mm512_load_si512(top),
                              .sign_window = _mm512_load_si512(sign),
                              .top_mask = _mm512_set1_epi8((char)((1u << (bits - 1)) - 1)),
                              .sign_mask = _mm512_set1_epi8((char)(1u << sign_bit)),
                              .first = _mm512_load_si512(first),
                              .second = _mm512_load_si512(second),
                              .shift = _mm_cvtsi32_si128((int)f->drop % 8)};
}

/* One group: out[0 .. size) are its elements. first, second: its symbols' bits in the two bytes where
 * they are. top and bytes[] are the group's places in the planes; a vector is read at each. */
ZNN_INLINE void znn_join_symbols(const znn_join_vectors *j, const znn_layout l, __m512i first, __m512i second,
                                 const uint8_t *top, const uint8_t *const bytes[ZNN_PLANES_MAX], size_t at,
                                 __m512i out[8])
{
    __m512i packed = _mm512_permutexvar_epi8(j->spread, _mm512_loadu_si512(top));
    __m512i low = _mm512_multishift_epi64_epi8(j->top_window, packed);
    __m512i sign = _mm512_multishift_epi64_epi8(j->sign_window, packed);
    __m512i b[8] = {0};
    /* 0xca: mask ? first : second */
    low = _mm512_ternarylogic_epi32(j->top_mask, low, first, 0xca);
    const unsigned zeros = l.size - l.bytes - 1 - l.two;
    for (unsigned p = 0; p < l.bytes; p++)
        b[zeros + p] = _mm512_loadu_si512(bytes[p] + at);
    if (l.two) {
        b[l.size - 2] = low;
        b[l.size - 1] = _mm512_ternarylogic_epi32(j->sign_mask, sign, second, 0xca);
    } else {
        b[l.size - 1] = _mm512_ternarylogic_epi32(j->sign_mask, sign, low, 0xca);
    }
    if (l.size == 1) {
        out[0] = b[0];
    } else if (l.size == 2) {
        out[0] = _mm512_unpacklo_epi8(b[0], b[1]);
        out[1] = _mm512_unpackhi_epi8(b[0], b[1]);
    } else if (l.size == 4) {
        const __m512i zero = _mm512_setzero_si512();
        __m512i low0 = zeros >= 2 ? zero : _mm512_unpacklo_epi8(b[0], b[1]);
        __m512i low1 = zeros >= 2 ? zero : _mm512_unpackhi_epi8(b[0], b[1]);
        __m512i high0 = _mm512_unpacklo_epi8(b[2], b[3]), high1 = _mm512_unpackhi_epi8(b[2], b[3]);
        out[0] = _mm512_unpacklo_epi16(low0, high0);
        out[1] = _mm512_unpackhi_epi16(low0, high0);
        out[2] = _mm512_unpacklo_epi16(low1, high1);
        out[3] = _mm512_unpackhi_epi16(low1, high1);
    } else {
        __m512i w[8], d[8]; /* words by half and pair of bytes; then doublewords by quarter and half */
        for (unsigned p = 0; p < 4; p++) {
            w[p] = _mm512_unpacklo_epi8(b[2 * p], b[2 * p + 1]);
            w[4 + p] = _mm512_unpackhi_epi8(b[2 * p], b[2 * p + 1]);
        }
        for (unsigned half = 0; half < 2; half++)
            for (unsigned p = 0; p < 2; p++) {
                d[4 * half + p] = _mm512_unpacklo_epi16(w[4 * half + 2 * p], w[4 * half + 2 * p + 1]);
                d[4 * half + 2 + p] = _mm512_unpackhi_epi16(w[4 * half + 2 * p], w[4 * half + 2 * p + 1]);
            }
        for (unsigned q = 0; q < 4; q++) {
            out[2 * q] = _mm512_unpacklo_epi32(d[2 * q], d[2 * q + 1]);
            out[2 * q + 1] = _mm512_unpackhi_epi32(d[2 * q], d[2 * q + 1]);
        }
    }
    if (l.shifted)
        for (unsigned q = 0; q < l.size; q++)
            out[q] = l.size == 2 ? _mm512_sll_epi16(out[q], j->shift) : _mm512_sll_epi32(out[q], j->shift);
}

/* Likewise, of indices. */
ZNN_INLINE void znn_join_group(const znn_join_vectors *j, const znn_layout l, __m512i index, const uint8_t *top,
                               const uint8_t *const bytes[ZNN_PLANES_MAX], size_t at, __m512i out[8])
{
    const __m512i second = l.two ? _mm512_permutexvar_epi8(index, j->second) : _mm512_setzero_si512();
    znn_join_symbols(j, l, _mm512_permutexvar_epi8(index, j->first), second, top, bytes, at, out);
}

#endif
