/* The narrow coder with AVX-512: see narrow_avx512.h. */
#include "entropy/narrow_avx512.h"

#define VECTORS_MAX 4

ZNN_INLINE void decode(znn_narrow_decoder *d, uint8_t *out, size_t rows, const unsigned vectors, const bool spread)
{
    const znn_narrow_vectors t = znn_narrow_vectors_load(d->table);
    const uint8_t *escaped = d->escaped;
    __m512i low[VECTORS_MAX], high[VECTORS_MAX];
    for (unsigned v = 0; v < vectors; v++) {
        low[v] = _mm512_load_si512(d->low + 64 * v);
        high[v] = _mm512_load_si512(d->high + 64 * v);
    }
    for (size_t sure; rows && (sure = znn_narrow_decoder_ready(d)) > 0;) {
        sure = ZNN_MIN(sure, rows);
        rows -= sure;
        const uint8_t *next = d->next;
        for (; sure; sure--, out += 64 * vectors)
            for (unsigned v = 0; v < vectors; v++)
                _mm512_storeu_si512(out + 64 * v, znn_narrow_step(&t, spread, false, &low[v], &high[v], &next, &escaped));
        d->next = next;
    }
    d->escaped = escaped;
    for (unsigned v = 0; v < vectors; v++) {
        _mm512_store_si512(d->low + 64 * v, low[v]);
        _mm512_store_si512(d->high + 64 * v, high[v]);
    }
    if (rows)
        memset(out, 0, rows * d->lanes);
}

void znn_narrow_decode_avx512(znn_narrow_decoder *d, uint8_t *out, size_t rows)
{
    const bool spread = d->table->spread;
    switch (d->lanes) {
    case 64: spread ? decode(d, out, rows, 1, true) : decode(d, out, rows, 1, false); break;
    case 128: spread ? decode(d, out, rows, 2, true) : decode(d, out, rows, 2, false); break;
    default: spread ? decode(d, out, rows, 4, true) : decode(d, out, rows, 4, false); break;
    }
}

bool znn_narrow_escapes_read_avx512(uint8_t *indices, const znn_narrow_table *t, size_t count, const uint8_t *src)
{
    /* 8 places from every escape_bits bytes: those to 8 bytes, then a window of 8 bits at each place */
    _Alignas(64) uint8_t spread[64], windows[64];
    const unsigned bits = t->escape_bits;
    for (unsigned i = 0; i < 64; i++) {
        spread[i] = (uint8_t)(bits * (i / 8) + i % 8);
        windows[i] = (uint8_t)(bits * (i % 8));
    }
    const __m512i to_bytes = _mm512_load_si512(spread), at = _mm512_load_si512(windows);
    const __m512i mask = _mm512_set1_epi8((char)((1u << bits) - 1)), tail = _mm512_loadu_si512(t->tail);
    const __m512i limit = _mm512_set1_epi8((char)t->tail_count);
    __mmask64 wrong = 0;
    for (size_t i = 0; i < count; i += 64, src += 8 * bits) {
        __m512i packed = _mm512_permutexvar_epi8(to_bytes, _mm512_loadu_si512(src));
        __m512i place = _mm512_and_si512(_mm512_multishift_epi64_epi8(at, packed), mask);
        const __mmask64 here = count - i >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << (count - i)) - 1;
        wrong |= _mm512_mask_cmpge_epu8_mask(here, place, limit);
        _mm512_storeu_si512(indices + i, _mm512_permutexvar_epi8(place, tail));
        if (count - i < 64 && (count - i) * bits % 8)
            wrong |= src[(count - i) * bits / 8] >> (count - i) * bits % 8;
    }
    return !wrong;
}

/* One symbol of 64 lanes, backwards; refill bytes go before *end. */
ZNN_INLINE void encode_step(__m512i code, __m512i freq_table, __m512i start_table, const __m512i slot_of[4],
                            __m512i reciprocal_low, __m512i reciprocal_high, __m512i *low, __m512i *high, uint8_t **end)
{
    const __m512i byte = _mm512_set1_epi16(0x00ff);
    const __m512i positions =
        _mm512_setr_epi64(0x0706050403020100, 0x0f0e0d0c0b0a0908, 0x1716151413121110, 0x1f1e1d1c1b1a1918,
                          0x2726252423222120, 0x2f2e2d2c2b2a2928, 0x3736353433323130, 0x3f3e3d3c3b3a3938);
    __m512i freq = _mm512_permutexvar_epi8(code, freq_table);
    __m512i start = _mm512_permutexvar_epi8(code, start_table);
    __m512i rl = _mm512_permutexvar_epi8(code, reciprocal_low);
    __m512i rh = _mm512_permutexvar_epi8(code, reciprocal_high);
    /* x >= freq << 8: a byte leaves */
    __mmask64 leaves = _mm512_cmpge_epu8_mask(*high, freq);
    /* To the top of a vector, and stored whole: what lies below is overwritten by
     * the next step. Masked and compressing stores are far slower on some machines. */
    __m512i bytes = _mm512_maskz_compress_epi8(leaves, *low);
    const unsigned count = (unsigned)_mm_popcnt_u64(leaves);
    bytes = _mm512_permutexvar_epi8(_mm512_add_epi8(positions, _mm512_set1_epi8((char)count)), bytes);
    _mm512_storeu_si512(*end - 64, bytes);
    *end -= count;
    __m512i l = _mm512_mask_mov_epi8(*low, leaves, *high);
    __m512i h = _mm512_maskz_mov_epi8(~leaves, *high);
    __m512i quotient[2], rest[2];
    for (unsigned odd = 0; odd < 2; odd++) {
        __m512i x = odd ? _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(l, 8), h, 0xca)
                        : _mm512_ternarylogic_epi32(byte, l, _mm512_slli_epi16(h, 8), 0xca);
        __m512i r = odd ? _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(rl, 8), rh, 0xca)
                        : _mm512_ternarylogic_epi32(byte, rl, _mm512_slli_epi16(rh, 8), 0xca);
        __m512i f = odd ? _mm512_srli_epi16(freq, 8) : _mm512_and_si512(freq, byte);
        /* r is 65536 / freq rounded down, so q is x / freq or one less */
        __m512i q = _mm512_mulhi_epu16(x, r);
        __m512i m = _mm512_sub_epi16(x, _mm512_mullo_epi16(q, f));
        __mmask32 more = _mm512_cmpge_epu16_mask(m, f);
        quotient[odd] = _mm512_mask_add_epi16(q, more, q, _mm512_set1_epi16(1));
        rest[odd] = _mm512_mask_sub_epi16(m, more, m, f);
    }
    __m512i remainder = _mm512_ternarylogic_epi32(byte, rest[0], _mm512_slli_epi16(rest[1], 8), 0xca);
    __m512i nth = _mm512_add_epi8(remainder, start); /* below 256 */
    *low = slot_of ? znn_look_up(slot_of, nth, _mm512_movepi8_mask(nth)) : nth;
    *high = _mm512_ternarylogic_epi32(byte, quotient[0], _mm512_slli_epi16(quotient[1], 8), 0xca);
}

ZNN_INLINE size_t encode(const znn_narrow_table *t, const uint8_t *codes, size_t rows, const uint16_t *initial,
                         uint8_t *dst_end, const unsigned vectors, const bool spread)
{
    _Alignas(64) uint8_t bytes[4][64];
    for (unsigned i = 0; i < 64; i++) {
        unsigned r = t->freq[i] ? 65536u / t->freq[i] : 0;
        r = r > 65535 ? 65535 : r;
        bytes[0][i] = (uint8_t)r;
        bytes[1][i] = (uint8_t)(r >> 8);
    }
    __m512i rl = _mm512_load_si512(bytes[0]), rh = _mm512_load_si512(bytes[1]);
    __m512i freq = _mm512_loadu_si512(t->freq), start = _mm512_loadu_si512(t->start);
    __m512i slot_of[4], low[VECTORS_MAX], high[VECTORS_MAX];
    for (unsigned i = 0; i < 4; i++)
        slot_of[i] = _mm512_loadu_si512(t->slot_of + 64 * i);
    for (unsigned v = 0; v < vectors; v++) {
        for (unsigned i = 0; i < 64; i++) {
            bytes[2][i] = (uint8_t)initial[64 * v + i];
            bytes[3][i] = (uint8_t)(initial[64 * v + i] >> 8);
        }
        low[v] = _mm512_load_si512(bytes[2]);
        high[v] = _mm512_load_si512(bytes[3]);
    }
    uint8_t *p = dst_end;
    for (const uint8_t *s = codes + rows * 64 * vectors; s != codes;) {
        s -= 64 * vectors;
        for (unsigned v = vectors; v-- > 0;)
            encode_step(_mm512_loadu_si512(s + 64 * v), freq, start, spread ? slot_of : NULL, rl, rh, &low[v], &high[v],
                        &p);
    }
    p -= 64 * vectors;
    for (unsigned v = 0; v < vectors; v++)
        _mm512_storeu_si512(p + 64 * v, high[v]);
    p -= 64 * vectors;
    for (unsigned v = 0; v < vectors; v++)
        _mm512_storeu_si512(p + 64 * v, low[v]);
    return (size_t)(dst_end - p);
}

size_t znn_narrow_encode_avx512(const znn_narrow_table *t, unsigned lanes, const uint8_t *codes, size_t rows,
                                const uint16_t *initial, uint8_t *dst_end)
{
    switch (lanes) {
    case 64:
        return t->spread ? encode(t, codes, rows, initial, dst_end, 1, true)
                         : encode(t, codes, rows, initial, dst_end, 1, false);
    case 128:
        return t->spread ? encode(t, codes, rows, initial, dst_end, 2, true)
                         : encode(t, codes, rows, initial, dst_end, 2, false);
    default:
        return t->spread ? encode(t, codes, rows, initial, dst_end, 4, true)
                         : encode(t, codes, rows, initial, dst_end, 4, false);
    }
}
