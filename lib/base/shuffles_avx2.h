/* Tables in vectors of 32 bytes, which AVX2 reads 16 bytes at a time, and bytes that
 * are packed or come and go by a mask. */
#ifndef ZNN_SHUFFLES_AVX2_H
#define ZNN_SHUFFLES_AVX2_H

#include <immintrin.h>

#include "base/base.h"
#include "base/shuffles.h"

#define ZNN_INLINE static inline __attribute__((always_inline))

ZNN_INLINE __m256i znn_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

ZNN_INLINE void znn_store(uint8_t *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}

/* A table of 16 bytes a part; the same in both halves. parts[i] is xored with the part after it. */
typedef struct {
    __m256i parts[4];
} znn_table64;

typedef struct {
    __m256i parts[16]; /* each 8 as above */
} znn_table256;

ZNN_INLINE __m256i znn_part(const uint8_t *bytes, bool last)
{
    __m128i part = _mm_loadu_si128((const __m128i *)(const void *)bytes);
    if (!last)
        part = _mm_xor_si128(part, _mm_loadu_si128((const __m128i *)(const void *)(bytes + 16)));
    return _mm256_broadcastsi128_si256(part);
}

/* bytes[16 * parts] */
ZNN_INLINE znn_table64 znn_table64_load(const uint8_t *bytes, const unsigned parts)
{
    znn_table64 t = {{_mm256_setzero_si256()}};
    for (unsigned i = 0; i < parts; i++)
        t.parts[i] = znn_part(bytes + 16 * i, i == parts - 1);
    return t;
}

ZNN_INLINE znn_table256 znn_table256_load(const uint8_t *bytes)
{
    znn_table256 t;
    for (unsigned i = 0; i < 16; i++)
        t.parts[i] = znn_part(bytes + 16 * i, i % 8 == 7);
    return t;
}

/* Each byte's value, of bytes below 16 * parts. A shuffle gives 0 where the top
 * bit is set: each part counts for the bytes up to its own, and undoes the parts after it. */
ZNN_INLINE __m256i znn_look_up64(const znn_table64 *t, const unsigned parts, __m256i index)
{
    __m256i r = _mm256_shuffle_epi8(t->parts[parts - 1], index);
    for (unsigned i = 0; i + 1 < parts; i++)
        r = _mm256_xor_si256(
            r, _mm256_shuffle_epi8(t->parts[i], _mm256_add_epi8(index, _mm256_set1_epi8((char)(0x70 - 16 * i)))));
    return r;
}

ZNN_INLINE __m256i znn_look_up256(const znn_table256 *t, __m256i index)
{
    __m256i half[2] = {index, _mm256_xor_si256(index, _mm256_set1_epi8((char)0x80))};
    __m256i r[2];
    for (unsigned h = 0; h < 2; h++) {
        r[h] = _mm256_shuffle_epi8(t->parts[8 * h + 7], half[h]);
        for (unsigned i = 0; i < 7; i++)
            r[h] = _mm256_xor_si256(
                r[h], _mm256_shuffle_epi8(t->parts[8 * h + i],
                                          _mm256_adds_epu8(half[h], _mm256_set1_epi8((char)(0x70 - 16 * i)))));
    }
    return _mm256_xor_si256(r[0], r[1]);
}

ZNN_INLINE __m256i znn_load_quarters(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d)
{
    __m128 zero = _mm_setzero_ps();
    __m128 low = _mm_loadh_pi(_mm_loadl_pi(zero, (const __m64 *)(const void *)a), (const __m64 *)(const void *)b);
    __m128 high = _mm_loadh_pi(_mm_loadl_pi(zero, (const __m64 *)(const void *)c), (const __m64 *)(const void *)d);
    return _mm256_castps_si256(_mm256_set_m128(high, low));
}

/* For each quarter's 8 bits of the mask, a line of the table; byte i of 16 as i, not i % 8. */
ZNN_INLINE __m256i znn_mask_shuffle(const uint64_t table[256], uint32_t mask)
{
    const __m256i places = _mm256_setr_epi64x(0, 0x0808080808080808, 0, 0x0808080808080808);
    __m256i r =
        znn_load_quarters((const uint8_t *)(table + (mask & 255)), (const uint8_t *)(table + (mask >> 8 & 255)),
                          (const uint8_t *)(table + (mask >> 16 & 255)), (const uint8_t *)(table + (mask >> 24)));
    return _mm256_or_si256(r, places);
}

/* The next bytes, to the lanes that are all ones in `where`; anything to the others. */
ZNN_INLINE __m256i znn_expand(__m256i where, const uint8_t **next)
{
    const uint32_t mask = (uint32_t)_mm256_movemask_epi8(where);
    /* how many of 16 lanes up to each are not, by 4, 8 and 16; which leaves the others before it */
    __m256i count = _mm256_mullo_epi32(_mm256_add_epi8(where, _mm256_set1_epi8(1)), _mm256_set1_epi32(0x01010101));
    const __m256i fours = _mm256_setr_epi32(-1, 0x03030303, -1, 0x0b0b0b0b, -1, 0x03030303, -1, 0x0b0b0b0b);
    const __m256i eights = _mm256_setr_epi32(-1, -1, 0x07070707, 0x07070707, -1, -1, 0x07070707, 0x07070707);
    const __m256i lane = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    count = _mm256_add_epi8(count, _mm256_shuffle_epi8(count, fours));
    count = _mm256_add_epi8(count, _mm256_shuffle_epi8(count, eights));
    const uint8_t *p = *next, *upper = p + __builtin_popcount(mask & 0xffff);
    __m256i bytes = _mm256_loadu2_m128i((const __m128i *)(const void *)upper, (const __m128i *)(const void *)p);
    *next = p + __builtin_popcount(mask);
    return _mm256_shuffle_epi8(bytes, _mm256_sub_epi8(lane, count));
}

/* 32 values of 1 to 8 bits each, packed with no gaps, as 16-bit words: of the
 * first 16 the first 8 in `low` and the others in `high`, then likewise of the others, which is
 * how bytes interleave to words. The value is at the top of its word; junk is below. */
typedef struct {
    __m256i low, high; /* which 2 of 16 bytes hold each of them */
    __m256i shift;
    unsigned bits;
} znn_unpacking;

typedef struct {
    __m256i low, high;
} znn_words;

static inline znn_unpacking znn_unpacking_of(unsigned bits)
{
    uint8_t at[2][32];
    uint16_t shift[16];
    for (unsigned i = 0; i < 16; i++) {
        for (unsigned part = 0; part < 2; part++) {
            const unsigned bit = bits * (i % 8 + 8 * part);
            at[part][2 * i] = (uint8_t)(bit / 8);
            at[part][2 * i + 1] = (uint8_t)(bit / 8 + 1);
        }
        shift[i] = (uint16_t)(1u << (16 - bits - bits * i % 8));
    }
    return (znn_unpacking){.low = znn_load(at[0]),
                           .high = znn_load(at[1]),
                           .shift = _mm256_loadu_si256((const __m256i *)(const void *)shift),
                           .bits = bits};
}

/* Reads 16 bytes at src and at src + 2 * bits. */
ZNN_INLINE znn_words znn_unpack(const znn_unpacking *u, const uint8_t *src)
{
    __m256i packed =
        _mm256_loadu2_m128i((const __m128i *)(const void *)(src + 2 * u->bits), (const __m128i *)(const void *)src);
    return (znn_words){_mm256_mullo_epi16(_mm256_shuffle_epi8(packed, u->low), u->shift),
                       _mm256_mullo_epi16(_mm256_shuffle_epi8(packed, u->high), u->shift)};
}

#endif
