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

/* ---- the other way ---- */

/* 64 values of 7 bits to 56 bytes */
static inline void store_packed(uint8_t *p, __m512i v)
{
    const __m512i close = _mm512_setr_epi64(
        0x0806050403020100, 0x11100e0d0c0b0a09, 0x1a19181615141312, 0x232221201e1d1c1b,
        0x2c2b2a2928262524, 0x3534333231302e2d, 0x3e3d3c3b3a393836, 0x0000000000000000);
    __m512i pairs = _mm512_maddubs_epi16(_mm512_set1_epi16((short)0x8001), v);    /* 14 bits */
    __m512i fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x40000001));     /* 28 bits */
    __m512i eights = _mm512_or_si512(_mm512_and_si512(fours, _mm512_set1_epi64(0x0fffffff)),
                                     _mm512_slli_epi64(_mm512_srli_epi64(fours, 32), 28));
    _mm512_mask_storeu_epi8(p, 0x00ffffffffffffff, _mm512_permutexvar_epi8(close, eights));
}

typedef struct {
    __m512i owner[2], base, common, rest_mask;
    __m128i shift;
    bool packed;
    uint64_t *escapes;
    size_t escapes_count;
} splitter;

/* The words that hold symbol and top: symbol bytes and top to memory. */
static inline __attribute__((always_inline)) void split_words(splitter *t, const __m512i word[2], uint8_t *symbols,
                                                              uint8_t *top, uint64_t position)
{
    const __m512i byte = _mm512_set1_epi16(0x00ff);
    __m512i symbol[2], code[2], rest[2];
    __mmask32 escape[2];
    for (unsigned i = 0; i < 2; i++) {
        symbol[i] = _mm512_srl_epi16(word[i], t->shift);
        code[i] = _mm512_sub_epi16(symbol[i], t->base);
        escape[i] =
            _mm512_cmpneq_epi16_mask(_mm512_permutex2var_epi16(t->owner[0], code[i], t->owner[1]), symbol[i]);
        code[i] = _mm512_mask_mov_epi16(code[i], escape[i], t->common);
        rest[i] = _mm512_and_si512(word[i], t->rest_mask);
    }
    _mm512_storeu_si512(symbols, _mm512_ternarylogic_epi32(byte, code[0], _mm512_slli_epi16(code[1], 8), 0xca));
    __m512i both = _mm512_or_si512(rest[0], _mm512_slli_epi16(rest[1], 8));
    if (t->packed)
        store_packed(top, both);
    else
        _mm512_storeu_si512(top, both);
    if (escape[0] | escape[1]) {
        uint16_t whole[2][32];
        _mm512_storeu_si512(whole[0], symbol[0]);
        _mm512_storeu_si512(whole[1], symbol[1]);
        uint64_t m = _pdep_u64(escape[0], 0x5555555555555555) | _pdep_u64(escape[1], 0xaaaaaaaaaaaaaaaa);
        for (; m; m &= m - 1) {
            unsigned lane = (unsigned)__builtin_ctzll(m);
            t->escapes[t->escapes_count++] = (position + lane) << 16 | whole[lane & 1][lane / 2];
        }
    }
}

bool znn_fields_split_avx512(const znn_fields *f, const uint8_t *src, size_t groups, const znn_symbol_map *map,
                             uint8_t *symbols, uint8_t *const planes[ZNN_PLANES_MAX], uint64_t *escapes,
                             size_t *escapes_count)
{
    const bool packed = f->packed_bits == 7;
    const unsigned all = f->byte_planes + packed;
    const bool two = f->element_size == 2 && f->bits == 16 && all == 1;
    const bool clean = f->element_size == 4 && f->bits == 16 && all == 1;
    const bool four = f->element_size == 4 && f->drop == 0 && all == 3;
    if ((f->packed_bits && !packed) || !(two || clean || four))
        return false;
    splitter t = {.base = _mm512_set1_epi16((short)f->base),
                  .common = _mm512_set1_epi16(map->common),
                  .rest_mask = _mm512_set1_epi16(packed ? 0x7f : 0xff),
                  .shift = _mm_cvtsi32_si128(packed ? 7 : 8),
                  .packed = packed,
                  .escapes = escapes};
    t.owner[0] = _mm512_loadu_si512(map->owner);
    t.owner[1] = _mm512_loadu_si512(map->owner + 32);
    uint8_t *top = planes[all - 1];
    const size_t top_size = packed ? 56 : 64;
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000), byte = _mm512_set1_epi16(0x00ff);
    for (size_t g = 0; g < groups; g++, symbols += 64, top += top_size) {
        __m512i word[2];
        if (two) {
            for (unsigned i = 0; i < 2; i++) {
                __m512i v = _mm512_loadu_si512(src + 64 * i);
                word[i] = _mm512_shldi_epi16(v, v, 1);
            }
            src += 128;
        } else {
            __m512i d[4];
            for (unsigned q = 0; q < 4; q++)
                d[q] = _mm512_loadu_si512(src + 64 * q);
            src += 256;
            if (four)
                for (unsigned q = 0; q < 4; q++)
                    d[q] = _mm512_rol_epi32(d[q], 1);
            for (unsigned i = 0; i < 2; i++)
                word[i] = _mm512_ternarylogic_epi32(upper, d[i + 2], _mm512_srli_epi32(d[i], 16), 0xca);
            if (clean) {
                word[0] = _mm512_shldi_epi16(word[0], word[0], 1);
                word[1] = _mm512_shldi_epi16(word[1], word[1], 1);
            } else {
                __m512i low[2];
                for (unsigned i = 0; i < 2; i++)
                    low[i] = _mm512_ternarylogic_epi32(upper, _mm512_slli_epi32(d[i + 2], 16), d[i], 0xca);
                _mm512_storeu_si512(planes[0] + 64 * g,
                                    _mm512_ternarylogic_epi32(byte, low[0], _mm512_slli_epi16(low[1], 8), 0xca));
                _mm512_storeu_si512(planes[1] + 64 * g,
                                    _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(low[0], 8), low[1], 0xca));
            }
        }
        split_words(&t, word, symbols, top, 64 * g);
    }
    *escapes_count = t.escapes_count;
    return true;
}
