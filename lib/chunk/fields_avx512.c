/* fields.h with AVX-512, for the layouts that matter: elements of 16 bits, and
 * of 32 bits whole or holding 16 (clean). Their rest is a byte plane, or 7
 * packed bits; those of 32 bits have two byte planes below it, or none. */
#include <immintrin.h>

#include "chunk/fields.h"

/* The rest's top bits of 64 elements, in the upper bits of each byte. */
static inline __m512i load_top(const uint8_t *p, bool packed)
{
    if (!packed)
        return _mm512_loadu_si512(p);
    /* 7 bits each: 8 of them from every 7 bytes */
    const __m512i spread = _mm512_setr_epi64(
        0x0006050403020100, 0x000d0c0b0a090807, 0x0014131211100f0e, 0x001b1a1918171615, 0x002221201f1e1d1c,
        0x0029282726252423, 0x00302f2e2d2c2b2a, 0x0037363534333231);
    const __m512i shifts = _mm512_set1_epi64(0x312a231c150e0700);
    __m512i bytes = _mm512_maskz_loadu_epi8(0x00ffffffffffffff, p);
    __m512i bits = _mm512_multishift_epi64_epi8(shifts, _mm512_permutexvar_epi8(spread, bytes));
    return _mm512_add_epi8(bits, bits); /* the bit that is not ours falls off */
}

/* symbols and top, lanes of one parity, to elements of 16 bits */
static inline __m512i make16(__m512i rotated, bool packed, __m512i base)
{
    if (packed)
        rotated = _mm512_srli_epi16(rotated, 1);
    rotated = _mm512_add_epi16(rotated, base);
    return _mm512_shrdi_epi16(rotated, rotated, 1);
}

static inline __attribute__((always_inline)) void join16(const znn_fields *f, uint8_t *dst, size_t groups,
                                                         const uint8_t *symbols, const uint8_t *top, bool packed,
                                                         bool wide)
{
    const __m512i byte = _mm512_set1_epi16(0x00ff);
    const __m512i base = _mm512_set1_epi16((short)(f->base << f->rest_bits));
    for (; groups; groups--, symbols += 64, top += packed ? 56 : 64, dst += wide ? 256 : 128) {
        __m512i s = _mm512_loadu_si512(symbols), r = load_top(top, packed);
        __m512i even = make16(_mm512_ternarylogic_epi32(byte, r, _mm512_slli_epi16(s, 8), 0xca), packed, base);
        __m512i odd = make16(_mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(r, 8), s, 0xca), packed, base);
        if (!wide) {
            _mm512_storeu_si512(dst, even);
            _mm512_storeu_si512(dst + 64, odd);
        } else { /* into the upper halves of 32 bits: lanes 4 i, 4 i + 1, ... */
            const __m512i upper = _mm512_set1_epi32((int)0xffff0000);
            _mm512_storeu_si512(dst, _mm512_slli_epi32(even, 16));
            _mm512_storeu_si512(dst + 64, _mm512_slli_epi32(odd, 16));
            _mm512_storeu_si512(dst + 128, _mm512_and_si512(even, upper));
            _mm512_storeu_si512(dst + 192, _mm512_and_si512(odd, upper));
        }
    }
}

static inline __m512i rotate32(__m512i low, __m512i high, bool packed, __m512i base)
{
    const __m512i unpacked = _mm512_or_si512(low, high);
    __m512i v = unpacked;
    if (packed) /* symbol << 24 | top7 << 17 | 16 bits: close the gap */
        v = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(v, 1), _mm512_set1_epi32(0x7fff0000)),
                            _mm512_and_si512(v, _mm512_set1_epi32(0xffff)));
    v = _mm512_add_epi32(v, base);
    return _mm512_ror_epi32(v, 1);
}

static inline __attribute__((always_inline)) void join32(const znn_fields *f, uint8_t *dst, size_t groups,
                                                         const uint8_t *symbols, const uint8_t *p0, const uint8_t *p1,
                                                         const uint8_t *top, bool packed)
{
    const __m512i byte = _mm512_set1_epi16(0x00ff), low16 = _mm512_set1_epi32(0xffff);
    const __m512i base = _mm512_set1_epi32((int)((uint32_t)f->base << f->rest_bits));
    for (; groups; groups--, symbols += 64, p0 += 64, p1 += 64, top += packed ? 56 : 64, dst += 256) {
        __m512i s = _mm512_loadu_si512(symbols), r = load_top(top, packed);
        __m512i a = _mm512_loadu_si512(p0), b = _mm512_loadu_si512(p1);
        __m512i high[2], low[2]; /* 16 bits each, even and odd lanes */
        high[0] = _mm512_ternarylogic_epi32(byte, r, _mm512_slli_epi16(s, 8), 0xca);
        high[1] = _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(r, 8), s, 0xca);
        low[0] = _mm512_ternarylogic_epi32(byte, a, _mm512_slli_epi16(b, 8), 0xca);
        low[1] = _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(a, 8), b, 0xca);
        for (unsigned q = 0; q < 4; q++) {
            __m512i l = low[q & 1], h = high[q & 1];
            if (q < 2) {
                l = _mm512_and_si512(l, low16);
                h = _mm512_slli_epi32(h, 16);
            } else {
                l = _mm512_srli_epi32(l, 16);
                h = _mm512_andnot_si512(low16, h);
            }
            _mm512_storeu_si512(dst + 64 * q, rotate32(l, h, packed, base));
        }
    }
}

bool znn_fields_join_avx512(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *symbols,
                            const uint8_t *const planes[ZNN_PLANES_MAX])
{
    const bool packed = f->packed_bits == 7;
    const unsigned bytes = f->byte_planes;
    if (f->packed_bits && !packed)
        return false;
    if (f->bits == 16 && bytes + packed == 1 && (f->element_size == 2 || f->drop == 16)) {
        if (f->element_size == 2 && packed)
            join16(f, dst, groups, symbols, planes[0], true, false);
        else if (f->element_size == 2)
            join16(f, dst, groups, symbols, planes[0], false, false);
        else if (packed)
            join16(f, dst, groups, symbols, planes[0], true, true);
        else
            join16(f, dst, groups, symbols, planes[0], false, true);
        return f->element_size == 2 || f->element_size == 4;
    }
    if (f->element_size == 4 && f->drop == 0 && bytes + packed == 3) {
        if (packed)
            join32(f, dst, groups, symbols, planes[0], planes[1], planes[2], true);
        else
            join32(f, dst, groups, symbols, planes[0], planes[1], planes[2], false);
        return true;
    }
    return false;
}
