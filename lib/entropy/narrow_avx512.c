/*
 * The narrow coder with AVX-512 (VBMI, VBMI2): 64 lanes a vector.
 *
 * Safety: a state is a slot of 8 bits and a high byte, used only as indices into
 * registers, so no stream can make this code touch memory outside. The only
 * reads from memory are the refills, for which znn_narrow_decoder_ready promises
 * `lanes` bytes and a vector more beyond d->next before every row.
 */
#include <immintrin.h>

#include "entropy/narrow.h"

#define VECTORS_MAX 4

typedef struct {
    __m512i symbol[4]; /* of slots 0..63, 64..127, ... */
    __m512i freq, start;
} tables;

static inline tables load_tables(const znn_narrow_table *t)
{
    tables r;
    for (unsigned i = 0; i < 4; i++)
        r.symbol[i] = _mm512_loadu_si512(t->symbol_of_slot + 64 * i);
    r.freq = _mm512_loadu_si512(t->freq);
    r.start = _mm512_loadu_si512(t->start);
    return r;
}

/* One symbol of 64 lanes. */
static inline __m512i step(const tables *t, __m512i *low, __m512i *high, const uint8_t **next)
{
    const __m512i byte = _mm512_set1_epi16(0x00ff);
    __m512i slot = *low;
    __m512i lower = _mm512_permutex2var_epi8(t->symbol[0], slot, t->symbol[1]);
    __m512i upper = _mm512_permutex2var_epi8(t->symbol[2], slot, t->symbol[3]);
    __m512i symbol = _mm512_mask_mov_epi8(lower, _mm512_movepi8_mask(slot), upper);
    __m512i freq = _mm512_permutexvar_epi8(symbol, t->freq);
    __m512i offset = _mm512_sub_epi8(slot, _mm512_permutexvar_epi8(symbol, t->start));
    /* x = freq * high + offset, in 16 bits, the even and the odd lanes apart */
    __m512i even = _mm512_add_epi16(_mm512_mullo_epi16(_mm512_and_si512(freq, byte), _mm512_and_si512(*high, byte)),
                                    _mm512_and_si512(offset, byte));
    __m512i odd = _mm512_add_epi16(_mm512_mullo_epi16(_mm512_srli_epi16(freq, 8), _mm512_srli_epi16(*high, 8)),
                                   _mm512_srli_epi16(offset, 8));
    /* 0xca: byte ? first : second */
    __m512i new_low = _mm512_ternarylogic_epi32(byte, even, _mm512_slli_epi16(odd, 8), 0xca);
    __m512i new_high = _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(even, 8), odd, 0xca);
    __mmask64 refill = _mm512_testn_epi8_mask(new_high, new_high);
    *high = _mm512_mask_mov_epi8(new_high, refill, new_low);
    *low = _mm512_mask_expand_epi8(new_low, refill, _mm512_loadu_si512(*next));
    *next += _mm_popcnt_u64(refill);
    return symbol;
}

static inline __attribute__((always_inline)) void decode(znn_narrow_decoder *d, uint8_t *out, size_t rows,
                                                         unsigned vectors)
{
    tables t = load_tables(d->table);
    __m512i low[VECTORS_MAX], high[VECTORS_MAX];
    for (unsigned v = 0; v < vectors; v++) {
        low[v] = _mm512_load_si512(d->low + 64 * v);
        high[v] = _mm512_load_si512(d->high + 64 * v);
    }
    while (rows && znn_narrow_decoder_ready(d)) {
        /* As many rows as surely stay inside; in the tail, one by one. */
        size_t sure = d->in_tail ? 1 : (size_t)(d->end - d->next - 64) / d->lanes;
        sure = sure < rows ? sure : rows;
        rows -= sure;
        const uint8_t *next = d->next;
        for (; sure; sure--, out += 64 * vectors)
            for (unsigned v = 0; v < vectors; v++)
                _mm512_storeu_si512(out + 64 * v, step(&t, &low[v], &high[v], &next));
        d->next = next;
    }
    for (unsigned v = 0; v < vectors; v++) {
        _mm512_store_si512(d->low + 64 * v, low[v]);
        _mm512_store_si512(d->high + 64 * v, high[v]);
    }
    if (rows)
        memset(out, 0, rows * d->lanes);
}

void znn_narrow_decode_avx512(znn_narrow_decoder *d, uint8_t *out, size_t rows)
{
    switch (d->lanes) {
    case 64: decode(d, out, rows, 1); break;
    case 128: decode(d, out, rows, 2); break;
    default: decode(d, out, rows, 4); break;
    }
}

/* One symbol of 64 lanes, backwards; refill bytes go before *end. */
static inline void encode_step(__m512i symbol, __m512i freq_table, __m512i start_table, __m512i reciprocal_low,
                               __m512i reciprocal_high, __m512i *low, __m512i *high, uint8_t **end)
{
    const __m512i byte = _mm512_set1_epi16(0x00ff);
    __m512i freq = _mm512_permutexvar_epi8(symbol, freq_table);
    __m512i start = _mm512_permutexvar_epi8(symbol, start_table);
    __m512i rl = _mm512_permutexvar_epi8(symbol, reciprocal_low);
    __m512i rh = _mm512_permutexvar_epi8(symbol, reciprocal_high);
    /* x >= freq << 8: a byte leaves */
    __mmask64 leaves = _mm512_cmpge_epu8_mask(*high, freq);
    __m512i bytes = _mm512_maskz_compress_epi8(leaves, *low);
    unsigned count = (unsigned)_mm_popcnt_u64(leaves);
    *end -= count;
    _mm512_mask_storeu_epi8(*end, _bzhi_u64(~0ull, count), bytes);
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
    *low = _mm512_add_epi8(remainder, start); /* below 256 */
    *high = _mm512_ternarylogic_epi32(byte, quotient[0], _mm512_slli_epi16(quotient[1], 8), 0xca);
}

static inline __attribute__((always_inline)) size_t encode(const znn_narrow_table *t, const uint8_t *symbols,
                                                           size_t rows, const uint16_t *initial, uint8_t *dst_end,
                                                           unsigned vectors)
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
    __m512i low[VECTORS_MAX], high[VECTORS_MAX];
    for (unsigned v = 0; v < vectors; v++) {
        for (unsigned i = 0; i < 64; i++) {
            bytes[2][i] = (uint8_t)initial[64 * v + i];
            bytes[3][i] = (uint8_t)(initial[64 * v + i] >> 8);
        }
        low[v] = _mm512_load_si512(bytes[2]);
        high[v] = _mm512_load_si512(bytes[3]);
    }
    uint8_t *p = dst_end;
    for (const uint8_t *s = symbols + rows * 64 * vectors; s != symbols;) {
        s -= 64 * vectors;
        for (unsigned v = vectors; v-- > 0;)
            encode_step(_mm512_loadu_si512(s + 64 * v), freq, start, rl, rh, &low[v], &high[v], &p);
    }
    p -= 64 * vectors;
    for (unsigned v = 0; v < vectors; v++)
        _mm512_storeu_si512(p + 64 * v, high[v]);
    p -= 64 * vectors;
    for (unsigned v = 0; v < vectors; v++)
        _mm512_storeu_si512(p + 64 * v, low[v]);
    return (size_t)(dst_end - p);
}

size_t znn_narrow_encode_avx512(const znn_narrow_table *t, unsigned lanes, const uint8_t *symbols, size_t rows,
                                const uint16_t *initial, uint8_t *dst_end)
{
    switch (lanes) {
    case 64: return encode(t, symbols, rows, initial, dst_end, 1);
    case 128: return encode(t, symbols, rows, initial, dst_end, 2);
    default: return encode(t, symbols, rows, initial, dst_end, 4);
    }
}
