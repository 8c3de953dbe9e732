/* fields.h with AVX-512: see fields_avx512.h for the way back. */
#include "chunk/fields_avx512.h"

#include "entropy/narrow_avx512.h"

bool znn_fields_known_avx512(const znn_fields *f)
{
#define KNOWN(size, bytes, two, shifted) || znn_layout_is(f, (znn_layout){size, bytes, two, shifted})
    return false ZNN_LAYOUTS(KNOWN);
#undef KNOWN
}

ZNN_INLINE void join(const znn_fields *f, const znn_layout l, uint8_t *dst, size_t groups, const uint8_t *indices,
                     const znn_symbols *symbols, const uint8_t *const planes[ZNN_PLANES_MAX])
{
    const znn_join_vectors j = znn_join_vectors_load(f, symbols);
    const size_t top_size = 8 * (size_t)f->top_bits;
    for (size_t g = 0; g < groups; g++, dst += 64 * l.size) {
        __m512i out[8];
        znn_join_group(&j, l, _mm512_loadu_si512(indices + 64 * g), planes[ZNN_TOP_PLANE] + g * top_size, planes,
                       64 * g, out);
        for (unsigned q = 0; q < l.size; q++)
            _mm512_storeu_si512(dst + 64 * q, out[q]);
    }
}

void znn_fields_join_avx512(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *indices,
                            const znn_symbols *symbols, const uint8_t *const planes[ZNN_PLANES_MAX])
{
#define JOIN(size, bytes, two, shifted)                                                                                \
    if (znn_layout_is(f, (znn_layout){size, bytes, two, shifted})) {                                                   \
        join(f, (znn_layout){size, bytes, two, shifted}, dst, groups, indices, symbols, planes);                       \
        return;                                                                                                        \
    }
    ZNN_LAYOUTS(JOIN)
#undef JOIN
}

/* Every code's bits of one byte of its symbol, which is shifted to where it stands. */
ZNN_INLINE void symbols_load(__m512i table[4], const uint16_t by_code[256], unsigned shift, unsigned byte)
{
    _Alignas(64) uint8_t bits[256];
    for (unsigned i = 0; i < 256; i++)
        bits[i] = (uint8_t)((unsigned)by_code[i] << shift >> 8 * byte);
    for (unsigned i = 0; i < 4; i++)
        table[i] = _mm512_load_si512(bits + 64 * i);
}

ZNN_INLINE void join_bytes(const znn_fields *f, const znn_layout l, uint8_t *dst, size_t groups, const uint8_t *codes,
                           const uint16_t by_code[256], const uint8_t *const planes[ZNN_PLANES_MAX])
{
    const znn_join_vectors j = znn_join_vectors_load(f, NULL);
    __m512i first[4], second[4];
    symbols_load(first, by_code, f->top_bits - 1, 0);
    symbols_load(second, by_code, f->top_bits - 1, 1);
    const size_t top_size = 8 * (size_t)f->top_bits;
    for (size_t g = 0; g < groups; g++, dst += 64 * l.size) {
        __m512i out[8];
        const __m512i code = _mm512_loadu_si512(codes + 64 * g);
        const __mmask64 upper_half = _mm512_movepi8_mask(code);
        znn_join_symbols(&j, l, znn_look_up(first, code, upper_half),
                         l.two ? znn_look_up(second, code, upper_half) : _mm512_setzero_si512(),
                         planes[ZNN_TOP_PLANE] + g * top_size, planes, 64 * g, out);
        for (unsigned q = 0; q < l.size; q++)
            _mm512_storeu_si512(dst + 64 * q, out[q]);
    }
}

void znn_fields_join_bytes_avx512(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *codes,
                                  const uint16_t by_code[256], const uint8_t *const planes[ZNN_PLANES_MAX])
{
#define JOIN(size, bytes, two, shifted)                                                                                \
    if (znn_layout_is(f, (znn_layout){size, bytes, two, shifted})) {                                                   \
        join_bytes(f, (znn_layout){size, bytes, two, shifted}, dst, groups, codes, by_code, planes);                   \
        return;                                                                                                        \
    }
    ZNN_LAYOUTS(JOIN)
#undef JOIN
}

/* ---- the other way ---- */

typedef struct {
    __m512i first, second, first_mask, second_mask; /* the symbol's bits in its bytes, by index and at all */
    __m512i codes, common, top_mask, sign_mask;
    __m512i close; /* packed bits of 8 values from 8 bytes to top_bits bytes */
    __m512i weights8, weights16;
    __m128i weight32, drop, index_shift;
    unsigned top_bits;
} splitter;

ZNN_INLINE splitter splitter_load(const znn_fields *f, const znn_split_codes *c)
{
    _Alignas(64) uint8_t first[64], second[64], close[64];
    const unsigned bits = f->top_bits;
    const unsigned mask = ((1u << f->symbol_bits) - 1) << (bits - 1);
    for (unsigned i = 0; i < 64; i++) {
        const unsigned symbol = (unsigned)c->symbols->of[i] << (bits - 1);
        first[i] = (uint8_t)symbol;
        second[i] = (uint8_t)(symbol >> 8);
        close[i] = (uint8_t)(i / bits % 8 * 8 + i % bits);
    }
    return (splitter){.first = _mm512_load_si512(first),
                      .second = _mm512_load_si512(second),
                      .first_mask = _mm512_set1_epi8((char)mask),
                      .second_mask = _mm512_set1_epi8((char)(mask >> 8)),
                      .codes = _mm512_loadu_si512(c->codes),
                      .common = _mm512_set1_epi8((char)c->common),
                      .top_mask = _mm512_set1_epi8((char)((1u << (bits - 1)) - 1)),
                      .sign_mask = _mm512_set1_epi8((char)(1u << (bits - 1))),
                      .close = _mm512_load_si512(close),
                      /* the second factor of maddubs is signed, so the values are given there */
                      .weights8 = _mm512_set1_epi16((short)(1 | 1u << bits << 8)),
                      .weights16 = _mm512_set1_epi32((int)(1 | 1u << 2 * bits << 16)),
                      .weight32 = _mm_cvtsi32_si128(4 * (int)bits),
                      .drop = _mm_cvtsi32_si128((int)f->drop % 8),
                      .index_shift = _mm_cvtsi32_si128((int)bits - 1),
                      .top_bits = bits};
}

/* Elements to bytes: the inverse of the interleaves. */
ZNN_INLINE void to_bytes(const splitter *s, const znn_layout l, const uint8_t *src, __m512i b[8])
{
    __m512i v[8];
    for (unsigned q = 0; q < l.size; q++) {
        v[q] = _mm512_loadu_si512(src + 64 * q);
        if (l.shifted)
            v[q] = l.size == 2 ? _mm512_srl_epi16(v[q], s->drop) : _mm512_srl_epi32(v[q], s->drop);
    }
    const __m512i byte = _mm512_set1_epi16(0x00ff);
    if (l.size == 1) {
        b[0] = v[0];
    } else if (l.size == 2) {
        b[0] = _mm512_packus_epi16(_mm512_and_si512(v[0], byte), _mm512_and_si512(v[1], byte));
        b[1] = _mm512_packus_epi16(_mm512_srli_epi16(v[0], 8), _mm512_srli_epi16(v[1], 8));
    } else {
        /* words first: 16-bit halves of the doublewords, then as above */
        const __m512i word = _mm512_set1_epi32(0xffff);
        __m512i d[8]; /* doublewords: low ones, high ones */
        const unsigned parts = l.size / 4;
        if (l.size == 8)
            for (unsigned q = 0; q < 4; q++) {
                d[q] = _mm512_castps_si512(
                    _mm512_shuffle_ps(_mm512_castsi512_ps(v[2 * q]), _mm512_castsi512_ps(v[2 * q + 1]), 0x88));
                d[4 + q] = _mm512_castps_si512(
                    _mm512_shuffle_ps(_mm512_castsi512_ps(v[2 * q]), _mm512_castsi512_ps(v[2 * q + 1]), 0xdd));
            }
        else
            for (unsigned q = 0; q < 4; q++)
                d[q] = v[q];
        for (unsigned p = 0; p < parts; p++) {
            const __m512i *x = d + 4 * p;
            __m512i low[2], high[2];
            for (unsigned h = 0; h < 2; h++) {
                low[h] = _mm512_packus_epi32(_mm512_and_si512(x[2 * h], word), _mm512_and_si512(x[2 * h + 1], word));
                high[h] = _mm512_packus_epi32(_mm512_srli_epi32(x[2 * h], 16), _mm512_srli_epi32(x[2 * h + 1], 16));
            }
            b[4 * p] = _mm512_packus_epi16(_mm512_and_si512(low[0], byte), _mm512_and_si512(low[1], byte));
            b[4 * p + 1] = _mm512_packus_epi16(_mm512_srli_epi16(low[0], 8), _mm512_srli_epi16(low[1], 8));
            b[4 * p + 2] = _mm512_packus_epi16(_mm512_and_si512(high[0], byte), _mm512_and_si512(high[1], byte));
            b[4 * p + 3] = _mm512_packus_epi16(_mm512_srli_epi16(high[0], 8), _mm512_srli_epi16(high[1], 8));
        }
    }
}

ZNN_INLINE void split(const znn_fields *f, const znn_layout l, const uint8_t *src, size_t groups, znn_split_codes *c,
                      uint8_t *const planes[ZNN_PLANES_MAX])
{
    const splitter s = splitter_load(f, c);
    const unsigned zeros = l.size - l.bytes - 1 - l.two;
    const __m512i low_bits = _mm512_set1_epi8((char)((1u << ZNN_MIN(f->symbol_bits, 6)) - 1)),
                  byte = _mm512_set1_epi16(0x00ff);
    const __m128i up = _mm_cvtsi32_si128(8 - (int)(s.top_bits - 1));
    uint8_t *top = planes[ZNN_TOP_PLANE];
    const unsigned sign_bit = (f->bits - 1) % 8;
    for (size_t g = 0; g < groups; g++, src += 64 * l.size, top += 8 * s.top_bits) {
        __m512i b[8];
        to_bytes(&s, l, src, b);
        for (unsigned p = 0; p < l.bytes; p++)
            _mm512_storeu_si512(planes[p] + 64 * g, b[zeros + p]);
        const __m512i x = b[zeros + l.bytes], y = l.two ? b[l.size - 1] : _mm512_setzero_si512();
        /* the index: 6 bits from bit top_bits - 1 of x on, and of y above it */
        __m512i index = _mm512_and_si512(_mm512_srl_epi16(x, s.index_shift), _mm512_srl_epi16(byte, s.index_shift));
        __m512i odd = _mm512_srl_epi16(_mm512_andnot_si512(byte, x), s.index_shift);
        index = _mm512_ternarylogic_epi32(byte, index, odd, 0xca);
        if (l.two) {
            __m512i even_y = _mm512_sll_epi16(_mm512_and_si512(y, byte), up);
            __m512i odd_y = _mm512_sll_epi16(_mm512_andnot_si512(byte, y), up);
            index = _mm512_or_si512(index, _mm512_ternarylogic_epi32(byte, even_y, odd_y, 0xca));
        }
        index = _mm512_and_si512(index, low_bits);
        /* is it the symbol that the index stands for? */
        __mmask64 missing =
            _mm512_cmpneq_epi8_mask(_mm512_and_si512(x, s.first_mask), _mm512_permutexvar_epi8(index, s.first));
        if (l.two)
            missing |=
                _mm512_cmpneq_epi8_mask(_mm512_and_si512(y, s.second_mask), _mm512_permutexvar_epi8(index, s.second));
        __m512i code = _mm512_permutexvar_epi8(index, s.codes);
        if (__builtin_expect(missing != 0, 0)) {
            _Alignas(64) uint8_t xs[64], ys[64];
            _mm512_store_si512(xs, x);
            _mm512_store_si512(ys, y);
            for (uint64_t m = missing; m; m &= m - 1) {
                const unsigned i = (unsigned)__builtin_ctzll(m);
                const unsigned symbol = (xs[i] | (unsigned)ys[i] << 8) >> (s.top_bits - 1);
                c->missing[c->missing_count++] = (uint64_t)(64 * g + i) << 16 | (symbol & ((1u << f->symbol_bits) - 1));
            }
            code = _mm512_mask_mov_epi8(code, missing, s.common);
        }
        _mm512_storeu_si512(c->out, code);
        c->out += 64;
        const __mmask64 escape = _mm512_movepi8_mask(code);
        _mm512_storeu_si512(c->escaped, _mm512_maskz_compress_epi8(escape, index));
        c->escaped += _mm_popcnt_u64(escape);
        /* the top: mantissa bits, and the sign above them */
        const __mmask64 sign = _mm512_test_epi8_mask(l.two ? y : x, _mm512_set1_epi8((char)(1u << sign_bit)));
        __m512i t = _mm512_and_si512(x, s.top_mask);
        t = _mm512_or_si512(t, _mm512_maskz_mov_epi8(sign, s.sign_mask));
        if (s.top_bits < 8) {
            __m512i pairs = _mm512_maddubs_epi16(s.weights8, t);
            __m512i fours = _mm512_madd_epi16(pairs, s.weights16);
            __m512i eights = _mm512_or_si512(_mm512_and_si512(fours, _mm512_set1_epi64(0xffffffff)),
                                             _mm512_sll_epi64(_mm512_srli_epi64(fours, 32), s.weight32));
            t = _mm512_permutexvar_epi8(s.close, eights);
        }
        _mm512_storeu_si512(top, t);
    }
}

void znn_fields_split_avx512(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                             uint8_t *const planes[ZNN_PLANES_MAX])
{
#define SPLIT(size, bytes, two, shifted)                                                                               \
    if (znn_layout_is(f, (znn_layout){size, bytes, two, shifted})) {                                                   \
        split(f, (znn_layout){size, bytes, two, shifted}, src, groups, codes, planes);                                 \
        return;                                                                                                        \
    }
    ZNN_LAYOUTS(SPLIT)
#undef SPLIT
}
