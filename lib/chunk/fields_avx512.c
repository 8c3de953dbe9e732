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

#define CONTEXT_PARTS 2 /* mantissa bits in a code of the context coder */

typedef struct {
    __m512i base, first_exponent, part_window; /* for the context coder */
    __m512i first, second, first_mask, second_mask; /* the symbol's bits in its bytes, by index and at all */
    __m512i codes, common, index_mask, top_mask, sign_mask;
    __m512i x_window, y_window, y_mask; /* the index's bits in x and in y, and which of them come from y */
    __m512i sign_window;                /* the sign to the top's highest bit */
    __m512i low_bytes, high_bytes;      /* of 64 words, in lane order */
    __m512i low_words, high_words;      /* of 32 doublewords */
    __m512i low_halves, high_halves;    /* of 16 quadwords */
    __m512i close;                      /* packed bits of 8 values from 8 bytes to top_bits bytes */
    __m512i weights8, weights16, four;  /* two and four values together; where four are in 64 bits */
    __m128i gap, drop;
    unsigned top_bits;
} splitter;

ZNN_INLINE splitter splitter_load(const znn_fields *f, const bool contexts, const znn_split_codes *c)
{
    _Alignas(64) uint8_t part[64], first[64], second[64], close[64], x_window[64], y_window[64], sign[64], bytes[2][64];
    uint16_t words[2][32];
    uint32_t halves[2][16];
    const unsigned bits = f->top_bits, sign_bit = (f->bits - 1) % 8;
    const unsigned mask = ((1u << f->symbol_bits) - 1) << (bits - 1);
    /* where what makes an index begins in x, or in y from bit 8 on; its bits */
    const unsigned begin = bits - 1 + (contexts ? CONTEXT_PARTS : 0);
    const unsigned index_bits = contexts ? f->symbol_bits - CONTEXT_PARTS : ZNN_MIN(f->symbol_bits, 6);
    for (unsigned i = 0; i < 64; i++) {
        const unsigned symbol = contexts ? 0 : (unsigned)c->symbols->of[i] << (bits - 1), at = 8 * (i % 8);
        part[i] = (uint8_t)(at + bits - 1);
        first[i] = (uint8_t)symbol;
        second[i] = (uint8_t)(symbol >> 8);
        close[i] = (uint8_t)(i / bits % 8 * 8 + i % bits);
        x_window[i] = (uint8_t)((at + begin) & 63);
        y_window[i] = (uint8_t)((at + begin - 8) & 63);
        sign[i] = (uint8_t)((at + sign_bit - (bits - 1)) & 63);
        for (unsigned k = 0; k < 2; k++) {
            bytes[k][i] = (uint8_t)(2 * znn_element_at(f, i) + k);
            words[k][i % 32] = (uint16_t)(2 * (i % 32) + k);
            halves[k][i % 16] = 2 * (i % 16) + k;
        }
    }
    return (splitter){.base = _mm512_set1_epi8((char)c->base),
                      .first_exponent = _mm512_set1_epi8((char)c->first),
                      .part_window = _mm512_load_si512(part),
                      .first = _mm512_load_si512(first),
                      .second = _mm512_load_si512(second),
                      .first_mask = _mm512_set1_epi8((char)mask),
                      .second_mask = _mm512_set1_epi8((char)(mask >> 8)),
                      .codes = contexts ? _mm512_setzero_si512() : _mm512_loadu_si512(c->codes),
                      .common = _mm512_set1_epi8((char)c->common),
                      .index_mask = _mm512_set1_epi8((char)((1u << index_bits) - 1)),
                      .top_mask = _mm512_set1_epi8((char)((1u << (bits - 1)) - 1)),
                      .sign_mask = _mm512_set1_epi8((char)(1u << (bits - 1))),
                      .x_window = _mm512_load_si512(x_window),
                      .y_window = _mm512_load_si512(y_window),
                      .y_mask = _mm512_set1_epi8((char)(begin < 8 ? 0xff << (8 - begin) : 0xff)),
                      .sign_window = _mm512_load_si512(sign),
                      .low_bytes = _mm512_load_si512(bytes[0]),
                      .high_bytes = _mm512_load_si512(bytes[1]),
                      .low_words = _mm512_loadu_si512(words[0]),
                      .high_words = _mm512_loadu_si512(words[1]),
                      .low_halves = _mm512_loadu_si512(halves[0]),
                      .high_halves = _mm512_loadu_si512(halves[1]),
                      .close = _mm512_load_si512(close),
                      /* the second factor of maddubs is signed, so the values are given there */
                      .weights8 = _mm512_set1_epi16((short)(1 | 1u << bits << 8)),
                      .weights16 = _mm512_set1_epi32((int)(1 | 1u << 2 * bits << 16)),
                      .four = _mm512_set1_epi64((long long)((UINT64_C(1) << 4 * bits) - 1)),
                      .gap = _mm_cvtsi32_si128(32 - 4 * (int)bits),
                      .drop = _mm_cvtsi32_si128((int)f->drop % 8),
                      .top_bits = bits};
}

/* Elements to bytes, each in lane order: the elements' halves, the halves of these, and so on. */
ZNN_INLINE void to_bytes(const splitter *s, const znn_layout l, const uint8_t *src, __m512i b[8])
{
    __m512i d[8], w[8]; /* doublewords and words, those of the whole group one after another; their highest last */
    for (unsigned q = 0; q < l.size; q++) {
        b[q] = _mm512_loadu_si512(src + 64 * q);
        if (l.shifted)
            b[q] = l.size == 2 ? _mm512_srl_epi16(b[q], s->drop) : _mm512_srl_epi32(b[q], s->drop);
    }
    if (l.size == 1)
        return;
    for (unsigned q = 0; q < l.size; q++)
        d[q] = b[q];
    for (unsigned q = 0; q < 4 && l.size == 8; q++) {
        d[q] = _mm512_permutex2var_epi32(b[2 * q], s->low_halves, b[2 * q + 1]);
        d[4 + q] = _mm512_permutex2var_epi32(b[2 * q], s->high_halves, b[2 * q + 1]);
    }
    for (unsigned q = 0; q < l.size; q++)
        w[q] = d[q];
    for (unsigned q = 0; q < l.size && l.size >= 4; q += 4)
        for (unsigned half = 0; half < 2; half++) {
            w[q + half] = _mm512_permutex2var_epi16(d[q + 2 * half], s->low_words, d[q + 2 * half + 1]);
            w[q + 2 + half] = _mm512_permutex2var_epi16(d[q + 2 * half], s->high_words, d[q + 2 * half + 1]);
        }
    for (unsigned q = 0; q < l.size; q += 2) {
        b[q] = _mm512_permutex2var_epi8(w[q], s->low_bytes, w[q + 1]);
        b[q + 1] = _mm512_permutex2var_epi8(w[q], s->high_bytes, w[q + 1]);
    }
}

/* The codes that the context coder is given, of exponents; which of them have none. */
ZNN_INLINE __mmask64 context_codes(const splitter *s, __m512i exponent, __m512i x, __m512i *code)
{
    __m512i index = _mm512_sub_epi8(exponent, s->base);
    /* index 0 is another exponent's, maybe */
    const __mmask64 first = _mm512_cmpeq_epi8_mask(exponent, s->first_exponent);
    const __mmask64 known = _mm512_cmplt_epu8_mask(index, _mm512_set1_epi8(64)) & _mm512_test_epi8_mask(index, index);
    index = _mm512_maskz_mov_epi8(known & ~first, index);
    const __m512i part = _mm512_and_si512(_mm512_multishift_epi64_epi8(s->part_window, x), _mm512_set1_epi8(3));
    *code = _mm512_or_si512(_mm512_slli_epi16(index, CONTEXT_PARTS), part); /* indices have 6 bits */
    return ~(known | first);
}

/* The indices of the codes that are escapes; where the next go. */
ZNN_INLINE uint8_t *put_escapes(uint8_t *escaped, __m512i code, __m512i index)
{
    const __mmask64 escape = _mm512_movepi8_mask(code);
    const unsigned escapes = (unsigned)_mm_popcnt_u64(escape);
    const __m512i their = _mm512_maskz_compress_epi8(escape, index);
    /* there are few, and a short store seldom crosses a line */
    _mm_storeu_si128((__m128i *)(void *)escaped, _mm512_castsi512_si128(their));
    if (__builtin_expect(escapes > 16, 0))
        _mm512_storeu_si512(escaped, their);
    return escaped + escapes;
}

ZNN_INLINE void split(const znn_fields *f, const znn_layout l, const bool contexts, const uint8_t *src, size_t groups,
                      znn_split_codes *c, uint8_t *const planes[ZNN_PLANES_MAX])
{
    const splitter s = splitter_load(f, contexts, c);
    const unsigned zeros = l.size - l.bytes - 1 - l.two;
    uint8_t *top = planes[ZNN_TOP_PLANE], *out = c->out, *escaped = c->escaped;
    for (size_t g = 0; g < groups; g++, src += 64 * l.size, top += 8 * s.top_bits, out += 64) {
        __m512i b[8];
        to_bytes(&s, l, src, b);
        for (unsigned p = 0; p < l.bytes; p++) {
            _mm512_storeu_si512(planes[p] + 64 * g, b[zeros + p]);
            znn_prefetch_ahead(planes[p] + 64 * g);
        }
        const __m512i x = b[zeros + l.bytes], y = l.two ? b[l.size - 1] : _mm512_setzero_si512();
        /* the index: 6 bits from bit top_bits - 1 of x on, and of y above it. 0xca: mask ? first : second */
        __m512i index = _mm512_multishift_epi64_epi8(s.x_window, x);
        if (l.two)
            index = _mm512_ternarylogic_epi32(s.y_mask, _mm512_multishift_epi64_epi8(s.y_window, y), index, 0xca);
        index = _mm512_and_si512(index, s.index_mask);
        /* is it the symbol that the index stands for? */
        __mmask64 missing;
        __m512i code;
        if (contexts) {
            missing = context_codes(&s, index, x, &code);
        } else {
            missing =
                _mm512_cmpneq_epi8_mask(_mm512_and_si512(x, s.first_mask), _mm512_permutexvar_epi8(index, s.first));
            if (l.two)
                missing |= _mm512_cmpneq_epi8_mask(_mm512_and_si512(y, s.second_mask),
                                                   _mm512_permutexvar_epi8(index, s.second));
            code = _mm512_permutexvar_epi8(index, s.codes);
        }
        if (__builtin_expect(missing != 0, 0)) {
            _Alignas(64) uint8_t xs[64], ys[64];
            _mm512_store_si512(xs, x);
            _mm512_store_si512(ys, y);
            for (uint64_t m = missing; m; m &= m - 1) {
                const unsigned i = (unsigned)__builtin_ctzll(m);
                const unsigned symbol = (xs[i] | (unsigned)ys[i] << 8) >> (s.top_bits - 1);
                c->missing[c->missing_count++] = (uint64_t)(64 * g + i) << 16 | (symbol & ((1u << f->symbol_bits) - 1));
            }
            /* the context coder's mantissa bits stay */
            code = contexts ? _mm512_or_si512(code, _mm512_maskz_mov_epi8(missing, s.common)) : _mm512_mask_mov_epi8(code, missing, s.common);
        }
        _mm512_storeu_si512(out, code);
        if (!contexts)
            escaped = put_escapes(escaped, code, index);
        /* the top: mantissa bits, and the sign above them. 0xea: first and second, or third */
        __m512i sign = _mm512_and_si512(_mm512_multishift_epi64_epi8(s.sign_window, l.two ? y : x), s.sign_mask);
        __m512i t = _mm512_ternarylogic_epi32(x, s.top_mask, sign, 0xea);
        if (s.top_bits < 8) {
            __m512i pairs = _mm512_maddubs_epi16(s.weights8, t);
            __m512i fours = _mm512_madd_epi16(pairs, s.weights16);
            __m512i eights = _mm512_ternarylogic_epi32(s.four, fours, _mm512_srl_epi64(fours, s.gap), 0xca);
            t = _mm512_permutexvar_epi8(s.close, eights);
        }
        _mm512_storeu_si512(top, t);
        znn_prefetch_ahead(top);
    }
    c->out = out;
    c->escaped = escaped;
}

void znn_fields_split_avx512(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                             uint8_t *const planes[ZNN_PLANES_MAX])
{
#define SPLIT(size, bytes, two, shifted)                                                                               \
    if (znn_layout_is(f, (znn_layout){size, bytes, two, shifted})) {                                                   \
        split(f, (znn_layout){size, bytes, two, shifted}, false, src, groups, codes, planes);                          \
        return;                                                                                                        \
    }
    ZNN_LAYOUTS(SPLIT)
#undef SPLIT
}

void znn_fields_split_contexts_avx512(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                                      uint8_t *const planes[ZNN_PLANES_MAX])
{
#define SPLIT(size, bytes, two, shifted)                                                                               \
    if (znn_layout_is(f, (znn_layout){size, bytes, two, shifted})) {                                                   \
        split(f, (znn_layout){size, bytes, two, shifted}, true, src, groups, codes, planes);                           \
        return;                                                                                                        \
    }
    ZNN_LAYOUTS(SPLIT)
#undef SPLIT
}
