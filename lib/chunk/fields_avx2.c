/* fields.h with AVX2: see fields_avx2.h for the way back. */
#include "chunk/fields_avx2.h"

bool znn_fields_known_avx2(const znn_fields *f)
{
    return znn_layout_known(f);
}

ZNN_INLINE __m256i shift_left(const znn_layout l, __m256i v, __m128i count)
{
    return l.size == 2 ? _mm256_sll_epi16(v, count) : _mm256_sll_epi32(v, count);
}

ZNN_INLINE __m256i shift_right(const znn_layout l, __m256i v, __m128i count)
{
    return l.size == 2 ? _mm256_srl_epi16(v, count) : _mm256_srl_epi32(v, count);
}

ZNN_INLINE void join(const znn_fields *f, const znn_layout l, uint8_t *dst, size_t groups, const uint8_t *indices,
                     const znn_symbols *symbols, const uint8_t *const planes[ZNN_PLANES_MAX])
{
    uint8_t bytes[2][64];
    znn_symbol_bytes(f, symbols, bytes[0], bytes[1]);
    const znn_table64 first_table = znn_table64_load(bytes[0], 4), second_table = znn_table64_load(bytes[1], 4);
    const znn_join_vectors j = znn_join_vectors_load(f);
    const __m128i drop = _mm_cvtsi32_si128((int)f->drop % 8);
    const uint8_t *top = planes[ZNN_TOP_PLANE];
    for (size_t h = 0; h < 2 * groups; h++, top += 4 * f->top_bits) {
        __m256i out[8], index = znn_load(indices + ZNN_HALF * h);
        __m256i first = znn_look_up64(&first_table, 4, index);
        __m256i second = l.two ? znn_look_up64(&second_table, 4, index) : first;
        znn_join_half(&j, l, first, second, top, planes, ZNN_HALF * h, out);
        uint8_t *to = dst + h / 2 * ZNN_GROUP * l.size + h % 2 * 32;
        for (unsigned q = 0; q < l.size; q++)
            znn_store(to + 64 * q, l.shifted ? shift_left(l, out[q], drop) : out[q]);
    }
}

void znn_fields_join_avx2(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *indices,
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

/* ---- the other way ---- */

/* Elements to bytes: the inverse of the interleaves. */
ZNN_INLINE void to_bytes(const znn_layout l, __m256i v[8], __m256i b[8])
{
    const __m256i byte = _mm256_set1_epi16(0x00ff), word = _mm256_set1_epi32(0xffff);
    if (l.size == 1) {
        b[0] = v[0];
    } else if (l.size == 2) {
        b[0] = _mm256_packus_epi16(_mm256_and_si256(v[0], byte), _mm256_and_si256(v[1], byte));
        b[1] = _mm256_packus_epi16(_mm256_srli_epi16(v[0], 8), _mm256_srli_epi16(v[1], 8));
    } else {
        /* words first: 16-bit halves of the doublewords, then as above */
        __m256i d[8]; /* doublewords: low ones, high ones */
        for (unsigned q = 0; q < 4; q++) {
            d[q] = v[q];
            if (l.size == 8) {
                __m256 x = _mm256_castsi256_ps(v[2 * q]), y = _mm256_castsi256_ps(v[2 * q + 1]);
                d[q] = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88));
                d[4 + q] = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd));
            }
        }
        for (unsigned p = 0; p < l.size / 4; p++) {
            const __m256i *x = d + 4 * p;
            __m256i low[2], high[2];
            for (unsigned h = 0; h < 2; h++) {
                low[h] = _mm256_packus_epi32(_mm256_and_si256(x[2 * h], word), _mm256_and_si256(x[2 * h + 1], word));
                high[h] = _mm256_packus_epi32(_mm256_srli_epi32(x[2 * h], 16), _mm256_srli_epi32(x[2 * h + 1], 16));
            }
            b[4 * p] = _mm256_packus_epi16(_mm256_and_si256(low[0], byte), _mm256_and_si256(low[1], byte));
            b[4 * p + 1] = _mm256_packus_epi16(_mm256_srli_epi16(low[0], 8), _mm256_srli_epi16(low[1], 8));
            b[4 * p + 2] = _mm256_packus_epi16(_mm256_and_si256(high[0], byte), _mm256_and_si256(high[1], byte));
            b[4 * p + 3] = _mm256_packus_epi16(_mm256_srli_epi16(high[0], 8), _mm256_srli_epi16(high[1], 8));
        }
    }
}

typedef struct {
    znn_table64 first, second, codes; /* by index: the symbol's bytes, and what the coder is given */
    __m256i first_mask, second_mask;  /* the symbol's bits in its bytes */
    __m256i index_in_first, index_in_second;
    __m256i common, top_mask, sign_mask;
    __m256i weights8, weights16, close; /* 8 values to top_bits bytes */
    __m128i weight32, drop, top_shift, rest_shift, to_sign, from_sign;
} splitter;

static splitter splitter_load(const znn_fields *f, const znn_split_codes *c)
{
    uint8_t first[64], second[64], close[16];
    const unsigned bits = f->top_bits, index_bits = ZNN_MIN(f->symbol_bits, 6);
    const unsigned mask = ((1u << f->symbol_bits) - 1) << (bits - 1), index_mask = (1u << index_bits) - 1;
    znn_symbol_bytes(f, c->symbols, first, second);
    for (unsigned i = 0; i < 16; i++)
        close[i] = (uint8_t)(i < 2 * bits ? i / bits * 8 + i % bits : 0x80);
    return (splitter){.first = znn_table64_load(first, 4),
                      .second = znn_table64_load(second, 4),
                      .codes = znn_table64_load(c->codes, 4),
                      .first_mask = _mm256_set1_epi8((char)mask),
                      .second_mask = _mm256_set1_epi8((char)(mask >> 8)),
                      .index_in_first = _mm256_set1_epi8((char)(0xffu >> (bits - 1) & index_mask)),
                      .index_in_second = _mm256_set1_epi8((char)(0xffu << (9 - bits) & index_mask)),
                      .common = _mm256_set1_epi8((char)c->common),
                      .top_mask = _mm256_set1_epi8((char)((1u << (bits - 1)) - 1)),
                      .sign_mask = _mm256_set1_epi8((char)0x80),
                      /* the second factor of maddubs is signed, so the values are given there */
                      .weights8 = _mm256_set1_epi16((short)(1 | 1u << bits << 8)),
                      .weights16 = _mm256_set1_epi32((int)(1 | 1u << 2 * bits << 16)),
                      .close = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)close)),
                      .weight32 = _mm_cvtsi32_si128(4 * (int)bits),
                      .drop = _mm_cvtsi32_si128((int)f->drop % 8),
                      .top_shift = _mm_cvtsi32_si128((int)bits - 1),
                      .rest_shift = _mm_cvtsi32_si128(9 - (int)bits),
                      .to_sign = _mm_cvtsi32_si128(7 - (int)(f->bits - 1) % 8),
                      .from_sign = _mm_cvtsi32_si128(8 - (int)bits)};
}

/* Half a group's bytes; returns a bit for each element whose symbol has no index. */
ZNN_INLINE uint32_t split_half(const splitter *s, const znn_layout l, const unsigned top_bits, const uint8_t *src,
                               uint8_t *const planes[ZNN_PLANES_MAX], size_t at, uint8_t *top, __m256i *code,
                               uint8_t indices[ZNN_HALF], uint8_t xs[ZNN_HALF], uint8_t ys[ZNN_HALF])
{
    const unsigned zeros = l.size - l.bytes - 1 - l.two;
    __m256i v[8], b[8];
    for (unsigned q = 0; q < l.size; q++) {
        v[q] = znn_load(src + 64 * q);
        if (l.shifted)
            v[q] = shift_right(l, v[q], s->drop);
    }
    to_bytes(l, v, b);
    for (unsigned p = 0; p < l.bytes; p++)
        znn_store(planes[p] + at, b[zeros + p]);
    const __m256i x = b[zeros + l.bytes], y = b[l.size - 1];
    __m256i index = _mm256_and_si256(_mm256_srl_epi16(x, s->top_shift), s->index_in_first);
    if (l.two)
        index = _mm256_or_si256(index, _mm256_and_si256(_mm256_sll_epi16(y, s->rest_shift), s->index_in_second));
    /* is it the symbol that the index stands for? */
    __m256i known = _mm256_cmpeq_epi8(_mm256_and_si256(x, s->first_mask), znn_look_up64(&s->first, 4, index));
    if (l.two)
        known = _mm256_and_si256(
            known, _mm256_cmpeq_epi8(_mm256_and_si256(y, s->second_mask), znn_look_up64(&s->second, 4, index)));
    *code = _mm256_blendv_epi8(s->common, znn_look_up64(&s->codes, 4, index), known);
    znn_store(indices, index);
    znn_store(xs, x);
    if (l.two)
        znn_store(ys, y);
    /* the top: mantissa bits, and the sign above them */
    __m256i sign = l.shifted ? _mm256_sll_epi16(y, s->to_sign) : y;
    sign = _mm256_and_si256(sign, s->sign_mask);
    __m256i t = _mm256_and_si256(x, s->top_mask);
    if (top_bits == 8) {
        znn_store(top, _mm256_or_si256(t, sign));
    } else {
        t = _mm256_or_si256(t, _mm256_srl_epi16(sign, s->from_sign));
        __m256i pairs = _mm256_maddubs_epi16(s->weights8, t);
        __m256i fours = _mm256_madd_epi16(pairs, s->weights16);
        __m256i eights = _mm256_or_si256(_mm256_blend_epi32(fours, _mm256_setzero_si256(), 0xaa),
                                         _mm256_sll_epi64(_mm256_srli_epi64(fours, 32), s->weight32));
        eights = _mm256_shuffle_epi8(eights, s->close);
        _mm256_storeu2_m128i((__m128i *)(void *)(top + 2 * top_bits), (__m128i *)(void *)top, eights);
    }
    return ~(uint32_t)_mm256_movemask_epi8(known);
}

ZNN_INLINE void split(const znn_fields *f, const znn_layout l, const uint8_t *src, size_t groups, znn_split_codes *c,
                      uint8_t *const planes[ZNN_PLANES_MAX])
{
    const splitter s = splitter_load(f, c);
    const unsigned top_bits = f->top_bits;
    uint8_t *top = planes[ZNN_TOP_PLANE];
    uint8_t indices[ZNN_GROUP + 1], xs[ZNN_GROUP], ys[ZNN_GROUP]; /* one more: the trailing zeros of 0 */
    indices[ZNN_GROUP] = 0;
    if (!l.two)
        memset(ys, 0, sizeof ys);
    for (size_t g = 0; g < groups; g++, src += ZNN_GROUP * l.size) {
        uint64_t missing = 0, escapes = 0;
        for (unsigned half = 0; half < 2; half++, top += 4 * top_bits) {
            const unsigned at = ZNN_HALF * half;
            __m256i code;
            missing |= (uint64_t)split_half(&s, l, top_bits, src + at, planes, ZNN_GROUP * g + at, top, &code,
                                            indices + at, xs + at, ys + at)
                       << at;
            escapes |= (uint64_t)(uint32_t)_mm256_movemask_epi8(code) << at;
            znn_store(c->out, code);
            c->out += ZNN_HALF;
        }
        for (uint64_t m = missing; __builtin_expect(m != 0, 0); m &= m - 1) {
            const unsigned i = (unsigned)__builtin_ctzll(m);
            const unsigned symbol = (xs[i] | (unsigned)ys[i] << 8) >> (top_bits - 1);
            c->missing[c->missing_count++] =
                (uint64_t)(ZNN_GROUP * g + i) << 16 | (symbol & ((1u << f->symbol_bits) - 1));
        }
        /* There are few or none, and a branch on which would often be missed. */
        const unsigned count = (unsigned)_mm_popcnt_u64(escapes);
        for (unsigned i = 0; i < 3; i++, escapes = _blsr_u64(escapes))
            c->escaped[i] = indices[_tzcnt_u64(escapes)];
        for (unsigned i = 3; __builtin_expect(i < count, 0); i++, escapes = _blsr_u64(escapes))
            c->escaped[i] = indices[_tzcnt_u64(escapes)];
        c->escaped += count;
    }
}

void znn_fields_split_avx2(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
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
