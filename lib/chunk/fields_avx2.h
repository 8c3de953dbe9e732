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

/* The top's values come as words, and join symbols that are words, too: their highest bit,
 * the sign, is spread by an arithmetic shift to wherever it stands. */
typedef struct {
    znn_unpacking top;
    __m256i mask;  /* mantissa and sign in the word of the symbol's first and second byte */
    __m128i right; /* the top's values to the word's lowest bits */
} znn_join_vectors;

static inline znn_join_vectors znn_join_vectors_load(const znn_fields *f)
{
    const unsigned bits = f->top_bits, sign = f->bits - 1 - 8 * f->byte_planes;
    return (znn_join_vectors){.top = znn_unpacking_of(bits),
                              .mask = _mm256_set1_epi16((short)((1u << (bits - 1)) - 1 + (1u << sign))),
                              .right = _mm_cvtsi32_si128(16 - (int)bits)};
}

/* Half a group: out[q] goes to 64 q + 32 half. first and second are the symbols' bytes; top and
 * bytes[] + at are the half's places in the planes. Of the top 16 bytes are read at two places. */
ZNN_INLINE void znn_join_half(const znn_join_vectors *j, const znn_layout l, __m256i first, __m256i second,
                              const uint8_t *top, const uint8_t *const bytes[ZNN_PLANES_MAX], size_t at, __m256i out[8])
{
    const __m256i zero = _mm256_setzero_si256();
    znn_words t;
    if (j->top.bits == 8) {
        __m256i values = znn_load(top);
        t = (znn_words){_mm256_unpacklo_epi8(zero, values), _mm256_unpackhi_epi8(zero, values)};
    } else {
        t = znn_unpack(&j->top, top);
    }
    t.low = _mm256_and_si256(_mm256_sra_epi16(t.low, j->right), j->mask);
    t.high = _mm256_and_si256(_mm256_sra_epi16(t.high, j->right), j->mask);
    const unsigned zeros = l.size - l.bytes - 1 - l.two;
    __m256i b[8];
    for (unsigned p = 0; p < zeros; p++)
        b[p] = zero;
    for (unsigned p = 0; p < l.bytes; p++)
        b[zeros + p] = znn_load(bytes[p] + at);
    if (!l.two) {
        /* one byte: together with the symbol's, all of them */
        b[l.size - 1] = _mm256_xor_si256(first, _mm256_packus_epi16(t.low, t.high));
        out[0] = b[0];
        if (l.size == 2) {
            out[0] = _mm256_unpacklo_epi8(b[0], b[1]);
            out[1] = _mm256_unpackhi_epi8(b[0], b[1]);
        }
        return;
    }
    /* words[p] and words[4 + p]: of the bytes 2 p and 2 p + 1; the last are the symbol's */
    const unsigned pairs = l.size / 2;
    __m256i words[8], d[8];
    for (unsigned p = 0; p + 1 < pairs; p++) {
        const bool empty = zeros >= 2 * p + 2;
        words[p] = empty ? zero : _mm256_unpacklo_epi8(b[2 * p], b[2 * p + 1]);
        words[4 + p] = empty ? zero : _mm256_unpackhi_epi8(b[2 * p], b[2 * p + 1]);
    }
    words[pairs - 1] = _mm256_xor_si256(_mm256_unpacklo_epi8(first, second), t.low);
    words[4 + pairs - 1] = _mm256_xor_si256(_mm256_unpackhi_epi8(first, second), t.high);
    if (l.size == 2) {
        out[0] = words[0];
        out[1] = words[4];
    } else if (l.size == 4) {
        for (unsigned half = 0; half < 2; half++) {
            out[2 * half] = _mm256_unpacklo_epi16(words[4 * half], words[4 * half + 1]);
            out[2 * half + 1] = _mm256_unpackhi_epi16(words[4 * half], words[4 * half + 1]);
        }
    } else {
        for (unsigned half = 0; half < 2; half++)
            for (unsigned p = 0; p < 2; p++) {
                d[4 * half + p] = _mm256_unpacklo_epi16(words[4 * half + 2 * p], words[4 * half + 2 * p + 1]);
                d[4 * half + 2 + p] = _mm256_unpackhi_epi16(words[4 * half + 2 * p], words[4 * half + 2 * p + 1]);
            }
        for (unsigned q = 0; q < 4; q++) {
            out[2 * q] = _mm256_unpacklo_epi32(d[2 * q], d[2 * q + 1]);
            out[2 * q + 1] = _mm256_unpackhi_epi32(d[2 * q], d[2 * q + 1]);
        }
    }
}

#endif
