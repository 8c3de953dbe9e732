/*
 * The wide coder's rows with AVX-512: 16 lanes a vector, 2 vectors a row. What a
 * slot stands for is gathered from a table in the first-level cache.
 *
 * Safety: a slot is 12 bits of a state, so gathers stay inside the table; a row
 * reads at most 64 bytes of refills, and whoever calls has seen that they are there.
 */
#include <immintrin.h>

#include "entropy/wide.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m512i step(__m512i *x, const uint32_t *slots, const uint8_t **refills)
{
    const __m512i low12 = _mm512_set1_epi32(4095);
    __m512i slot = _mm512_i32gather_epi32(_mm512_and_si512(*x, low12), slots, 4);
    __m512i freq = _mm512_and_si512(_mm512_srli_epi32(slot, 8), low12);
    __m512i y =
        _mm512_add_epi32(_mm512_mullo_epi32(freq, _mm512_srli_epi32(*x, ZNN_WIDE_BITS)), _mm512_srli_epi32(slot, 20));
    const __mmask16 refill = _mm512_cmplt_epu32_mask(y, _mm512_set1_epi32(1 << 16));
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)*refills));
    words = _mm512_maskz_expand_epi32(refill, words);
    *x = _mm512_mask_or_epi32(y, refill, _mm512_slli_epi32(y, 16), words);
    *refills += 2 * _mm_popcnt_u32(refill);
    return slot;
}

const uint8_t *znn_wide_rows_avx512(uint8_t *dst, size_t rows, uint32_t states[ZNN_WIDE_LANES], const uint32_t *slots,
                                    const uint8_t *refills, const uint8_t *end, size_t *done)
{
    __m512i x0 = _mm512_loadu_si512(states), x1 = _mm512_loadu_si512(states + 16);
    size_t i = 0;
    for (; i < rows && end - refills >= 2 * ZNN_WIDE_LANES; i++, dst += ZNN_WIDE_LANES) {
        __m512i s0 = step(&x0, slots, &refills);
        __m512i s1 = step(&x1, slots, &refills);
        _mm_storeu_si128((void *)dst, _mm512_cvtepi32_epi8(s0));
        _mm_storeu_si128((void *)(dst + 16), _mm512_cvtepi32_epi8(s1));
    }
    _mm512_storeu_si512(states, x0);
    _mm512_storeu_si512(states + 16, x1);
    *done = i;
    return refills;
}

/* A vector of symbols, backwards; refills go before *end. */
INLINE void encode_step(__m128i symbols, const uint32_t *places, const uint32_t *reciprocals, __m512i *x, uint8_t **end)
{
    const __m512i index = _mm512_cvtepu8_epi32(symbols);
    const __m512i place = _mm512_i32gather_epi32(index, places, 4), r = _mm512_i32gather_epi32(index, reciprocals, 4);
    const __m512i freq = _mm512_and_si512(place, _mm512_set1_epi32(0xffff)), start = _mm512_srli_epi32(place, 16);
    const __mmask16 leaves = _mm512_cmpge_epu32_mask(_mm512_srli_epi32(*x, 32 - ZNN_WIDE_BITS), freq);
    const unsigned count = (unsigned)_mm_popcnt_u32(leaves);
    *end -= 2 * count;
    _mm256_mask_storeu_epi16(*end, (__mmask16)((1u << count) - 1),
                             _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(leaves, *x)));
    const __m512i y = _mm512_mask_srli_epi32(*x, leaves, *x, 16);
    /* r is 2^32 / freq rounded down, so q is y / freq or one less */
    const __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(y, r), 32);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(y, 32), _mm512_srli_epi64(r, 32));
    __m512i q = _mm512_mask_mov_epi32(even, 0xaaaa, odd);
    __m512i rest = _mm512_sub_epi32(y, _mm512_mullo_epi32(q, freq));
    const __mmask16 more = _mm512_cmpge_epu32_mask(rest, freq);
    q = _mm512_mask_add_epi32(q, more, q, _mm512_set1_epi32(1));
    rest = _mm512_mask_sub_epi32(rest, more, rest, freq);
    *x = _mm512_add_epi32(_mm512_slli_epi32(q, ZNN_WIDE_BITS), _mm512_add_epi32(rest, start));
}

uint8_t *znn_wide_encode_rows_avx512(const uint8_t *src, size_t rows, uint32_t states[ZNN_WIDE_LANES],
                                     const uint32_t places[256], const uint32_t reciprocals[256], uint8_t *end)
{
    __m512i x0 = _mm512_loadu_si512(states), x1 = _mm512_loadu_si512(states + 16);
    for (const uint8_t *s = src + rows * ZNN_WIDE_LANES; s != src;) {
        s -= ZNN_WIDE_LANES;
        encode_step(_mm_loadu_si128((const void *)(s + 16)), places, reciprocals, &x1, &end);
        encode_step(_mm_loadu_si128((const void *)s), places, reciprocals, &x0, &end);
    }
    _mm512_storeu_si512(states, x0);
    _mm512_storeu_si512(states + 16, x1);
    return end;
}
