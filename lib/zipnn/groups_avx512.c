/* Splitting by plain loops; merging by vectors of 64 numbers, past the caches where more is written than they hold. */
#include "zipnn/groups_loops.h"

#include <immintrin.h>

#define VECTOR 64

static inline void put(uint8_t *dst, __m512i v, bool large)
{
    if (large)
        _mm512_stream_si512((void *)dst, v);
    else
        _mm512_storeu_si512(dst, v);
}

/* `a` where mask has ones, else `b`. */
static inline __m512i choose(__m512i mask, __m512i a, __m512i b)
{
    return _mm512_ternarylogic_epi64(mask, a, b, 0xCA);
}

static inline __m512i unpack16_all(__m512i v)
{
    __m512i low = choose(_mm512_set1_epi16(0x7F), v, _mm512_srli_epi16(v, 1));
    return choose(_mm512_set1_epi16(0x7FFF), low, _mm512_slli_epi16(v, 8));
}

static inline __m512i unpack32_all(__m512i v)
{
    __m512i low = choose(_mm512_set1_epi32(0x7FFFFF), v, _mm512_srli_epi32(v, 1));
    return choose(_mm512_set1_epi32(0x7FFFFFFF), low, _mm512_slli_epi32(v, 8));
}

/* Bytes of a and b, or words, in turns: how the first half of the result is taken from them. */
static inline __m512i turns_of_bytes(void)
{
    __m512i even = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(uint8_t[32]){
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
        16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}));
    return _mm512_or_si512(even, _mm512_slli_epi16(_mm512_add_epi16(even, _mm512_set1_epi16(64)), 8));
}

static inline __m512i turns_of_words(void)
{
    __m512i even = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_or_si512(even, _mm512_slli_epi32(_mm512_add_epi32(even, _mm512_set1_epi32(32)), 16));
}

/* How many numbers come before the first whole line of dst; all of them if none begins there. */
static size_t before_line(const uint8_t *dst, size_t n, size_t width)
{
    size_t bytes = -(uintptr_t)dst & (VECTOR - 1);
    return bytes % width ? n : ZNN_MIN(n, bytes / width);
}

static inline __attribute__((always_inline)) size_t merge16_lines(uint8_t *dst, const uint8_t *low, const uint8_t *high,
                                                                  size_t n, bool reorder, bool large)
{
    const __m512i first = turns_of_bytes(), second = _mm512_add_epi8(first, _mm512_set1_epi8(32));
    size_t i = 0;
    for (; i + VECTOR <= n; i += VECTOR) {
        __m512i l = _mm512_loadu_si512(low + i), h = _mm512_loadu_si512(high + i);
        __m512i a = _mm512_permutex2var_epi8(l, first, h), b = _mm512_permutex2var_epi8(l, second, h);
        put(dst + 2 * i, reorder ? unpack16_all(a) : a, large);
        put(dst + 2 * i + VECTOR, reorder ? unpack16_all(b) : b, large);
    }
    return i;
}

static void merge16_vectors(uint8_t *dst, const uint8_t *low, const uint8_t *high, size_t n, bool reorder, bool large)
{
    size_t head = large ? before_line(dst, n, 2) : 0;
    merge16(dst, low, high, head, reorder, false);
    dst += 2 * head;
    low += head;
    high += head;
    n -= head;
    size_t done;
    if (large)
        done = reorder ? merge16_lines(dst, low, high, n, true, true) : merge16_lines(dst, low, high, n, false, true);
    else
        done = reorder ? merge16_lines(dst, low, high, n, true, false) : merge16_lines(dst, low, high, n, false, false);
    merge16(dst + 2 * done, low + done, high + done, n - done, reorder, false);
}

static inline __attribute__((always_inline)) size_t merge32_lines(uint8_t *dst, const uint8_t *const group[],
                                                                  size_t begin, size_t n, bool reorder, bool large)
{
    const __m512i first = turns_of_bytes(), second = _mm512_add_epi8(first, _mm512_set1_epi8(32));
    const __m512i first_words = turns_of_words(), second_words = _mm512_add_epi16(first_words, _mm512_set1_epi16(16));
    size_t i = begin;
    for (; i + VECTOR <= n; i += VECTOR) {
        __m512i a = _mm512_loadu_si512(group[0] + i), b = _mm512_loadu_si512(group[1] + i);
        __m512i c = _mm512_loadu_si512(group[2] + i), d = _mm512_loadu_si512(group[3] + i);
        for (unsigned half = 0; half < 2; half++) {
            __m512i low = _mm512_permutex2var_epi8(a, half ? second : first, b);
            __m512i high = _mm512_permutex2var_epi8(c, half ? second : first, d);
            __m512i x = _mm512_permutex2var_epi16(low, first_words, high);
            __m512i y = _mm512_permutex2var_epi16(low, second_words, high);
            put(dst + 4 * i + 2 * VECTOR * half, reorder ? unpack32_all(x) : x, large);
            put(dst + 4 * i + 2 * VECTOR * half + VECTOR, reorder ? unpack32_all(y) : y, large);
        }
    }
    return i;
}

static void merge32_from(uint8_t *dst, const uint8_t *const group[], size_t begin, size_t n, bool reorder)
{
    const uint8_t *rest[4] = {group[0] + begin, group[1] + begin, group[2] + begin, group[3] + begin};
    merge32(dst + 4 * begin, rest, n - begin, reorder, false);
}

static void merge32_vectors(uint8_t *dst, const uint8_t *const group[], size_t n, bool reorder, bool large)
{
    size_t head = large ? before_line(dst, n, 4) : 0, done;
    merge32(dst, group, head, reorder, false);
    if (large)
        done = reorder ? merge32_lines(dst, group, head, n, true, true)
                       : merge32_lines(dst, group, head, n, false, true);
    else
        done = reorder ? merge32_lines(dst, group, 0, n, true, false) : merge32_lines(dst, group, 0, n, false, false);
    merge32_from(dst, group, done, n, reorder);
}

const znn_groups_loops znn_groups_avx512 = {split16, split32, merge16_vectors, merge32_vectors};
