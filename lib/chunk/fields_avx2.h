/*
 * fields.h with AVX2: half a group, 32 elements, from planes and symbols.
 *
 * Every element is E bytes: zero bytes (dropped bits), byte planes as they are,
 * then the byte where the mantissa's top ends and the symbol begins, and, if the
 * symbol does not end there, one more. A symbol's bits in these two are looked up,
 * the packed top's are put in by masks, and interleaves make elements. They work
 * on 128 bits, two of which are neighbours in the lane order: what comes out of
 * half a group are E vectors, each at the half of a 64-byte line.
 */
#ifndef ZNN_FIELDS_AVX2_H
#define ZNN_FIELDS_AVX2_H

#include "base/shuffles_avx2.h"
#include "chunk/layouts.h"

#define ZNN_HALF 32

typedef struct {
    znn_unpacking top;
    __m256i top_mask, sign_mask;
    __m128i to_sign, from_sign; /* the top's highest bit to bit 7, from there to where the sign stands */
} znn_join_vectors;

static inline znn_join_vectors znn_join_vectors_load(const znn_fields *f)
{
    const unsigned bits = f->top_bits;
    return (znn_join_vectors){.top = znn_unpacking_of(bits),
                              .top_mask = _mm256_set1_epi8((char)((1u << (bits - 1)) - 1)),
                              .sign_mask = _mm256_set1_epi8((char)0x80),
                              .to_sign = _mm_cvtsi32_si128(8 - (int)bits),
                              .from_sign = _mm_cvtsi32_si128(7 - (int)(f->bits - 1) % 8)};
}

/* The bytes of a symbol by its index: in `first`, and in `second`, if it ends there. */
static inline void znn_symbol_bytes(const znn_fields *f, const znn_symbols *symbols, uint8_t first[64],
                                    uint8_t second[64])
{
    for (unsigned i = 0; i < 64; i++) {
        const unsigned symbol = (unsigned)symbols->of[i] << (f->top_bits - 1);
        first[i] = (uint8_t)symbol;
        second[i] = (uint8_t)(symbol >> 8);
    }
}

/* Bytes to elements: b[] is changed. */
ZNN_INLINE void znn_interleave(const znn_layout l, __m256i b[8])
{
    __m256i t[8];
    /* bytes to words, words to doublewords, ...: out of the first half's and the second half's
     * neighbours come the next level's */
    if (l.size == 2) {
        t[0] = _mm256_unpacklo_epi8(b[0], b[1]);
        t[1] = _mm256_unpackhi_epi8(b[0], b[1]);
        b[0] = t[0];
        b[1] = t[1];
    } else if (l.size == 4) {
        for (unsigned p = 0; p < 2; p++) {
            t[p] = _mm256_unpacklo_epi8(b[2 * p], b[2 * p + 1]);
            t[2 + p] = _mm256_unpackhi_epi8(b[2 * p], b[2 * p + 1]);
        }
        for (unsigned half = 0; half < 2; half++) {
            b[2 * half] = _mm256_unpacklo_epi16(t[2 * half], t[2 * half + 1]);
            b[2 * half + 1] = _mm256_unpackhi_epi16(t[2 * half], t[2 * half + 1]);
        }
    } else if (l.size == 8) {
        for (unsigned p = 0; p < 4; p++) {
            t[p] = _mm256_unpacklo_epi8(b[2 * p], b[2 * p + 1]);
            t[4 + p] = _mm256_unpackhi_epi8(b[2 * p], b[2 * p + 1]);
        }
        __m256i d[8];
        for (unsigned half = 0; half < 2; half++)
            for (unsigned p = 0; p < 2; p++) {
                d[4 * half + p] = _mm256_unpacklo_epi16(t[4 * half + 2 * p], t[4 * half + 2 * p + 1]);
                d[4 * half + 2 + p] = _mm256_unpackhi_epi16(t[4 * half + 2 * p], t[4 * half + 2 * p + 1]);
            }
        for (unsigned q = 0; q < 4; q++) {
            b[2 * q] = _mm256_unpacklo_epi32(d[2 * q], d[2 * q + 1]);
            b[2 * q + 1] = _mm256_unpackhi_epi32(d[2 * q], d[2 * q + 1]);
        }
    }
}

/* Half a group: out[q] goes to 64 q + 32 half. first and second are the symbols' bytes; top and
 * bytes[] + at are the half's places in the planes. Of the top 16 bytes are read at two places. */
ZNN_INLINE void znn_join_half(const znn_join_vectors *j, const znn_layout l, __m256i first, __m256i second,
                              const uint8_t *top, const uint8_t *const bytes[ZNN_PLANES_MAX], size_t at, __m256i out[8])
{
    __m256i t = j->top.bits == 8 ? znn_load(top) : znn_unpack(&j->top, top);
    __m256i sign = _mm256_and_si256(_mm256_sll_epi16(t, j->to_sign), j->sign_mask);
    if (l.shifted)
        sign = _mm256_srl_epi16(sign, j->from_sign);
    const unsigned zeros = l.size - l.bytes - 1 - l.two;
    for (unsigned p = 0; p < zeros; p++)
        out[p] = _mm256_setzero_si256();
    for (unsigned p = 0; p < l.bytes; p++)
        out[zeros + p] = znn_load(bytes[p] + at);
    out[zeros + l.bytes] = _mm256_or_si256(first, _mm256_and_si256(t, j->top_mask));
    if (l.two)
        out[l.size - 1] = second;
    out[l.size - 1] = _mm256_or_si256(out[l.size - 1], sign);
    znn_interleave(l, out);
}

#endif
