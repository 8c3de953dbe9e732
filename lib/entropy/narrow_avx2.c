/* The narrow coder with AVX2: see narrow_avx2.h. */
#include "entropy/narrow_avx2.h"

#define BLOCK 2048 /* a few rows, so that their codes stay in the cache */

ZNN_INLINE void decode_rows(const znn_narrow_vectors *t, const znn_narrow_shape shape, znn_narrow_decoder *d,
                            size_t rows, uint8_t *a, uint8_t *b)
{
    const unsigned lanes = d->lanes;
    const uint8_t *next = d->next;
    for (; rows; rows--, a += lanes, b += lanes) {
        for (unsigned l = 0; l < lanes; l += 32) {
            const znn_codes codes = znn_narrow_codes_of(t, shape, znn_load(d->low + l));
            znn_store(a + l, codes.a);
            znn_store(b + l, codes.b);
        }
        for (unsigned l = 0; l < lanes; l += 32)
            znn_narrow_advance(t, shape, (znn_codes){znn_load(a + l), znn_load(b + l)}, d->low + l, d->high + l);
        for (unsigned l = 0; l < lanes; l += 32)
            znn_narrow_refill(d->low + l, d->high + l, &next);
    }
    d->next = next;
}

void znn_narrow_rows_avx2(const znn_narrow_vectors *t, znn_narrow_decoder *d, size_t rows, uint8_t *a, uint8_t *b)
{
#define ROWS(codes_, offsets_, spread_, large_)                                                                        \
    if (t->shape.codes == codes_ && t->shape.offsets == offsets_ && t->shape.large == large_) {                        \
        decode_rows(t, (znn_narrow_shape){codes_, offsets_, spread_, large_}, d, rows, a, b);                          \
        return;                                                                                                        \
    }
    ZNN_NARROW_SHAPES(ROWS)
#undef ROWS
}

void znn_narrow_decode_avx2(znn_narrow_decoder *d, uint8_t *out, size_t rows)
{
    znn_narrow_vectors t;
    znn_narrow_vectors_load(&t, d->table);
    const znn_table64 code = znn_narrow_by_code(&t, t.codes);
    uint8_t a[BLOCK], b[BLOCK];
    for (size_t sure; rows && (sure = znn_narrow_decoder_ready(d)) > 0;) {
        sure = ZNN_MIN(ZNN_MIN(sure, rows), BLOCK / d->lanes);
        rows -= sure;
        znn_narrow_rows_avx2(&t, d, sure, a, b);
        for (size_t i = 0; i < sure * d->lanes; i += 32, out += 32) {
            const znn_codes codes = {znn_load(a + i), znn_load(b + i)};
            __m256i index = znn_narrow_look_up(&code, t.shape, codes), zero = _mm256_setzero_si256();
            if (_mm256_movemask_epi8(index)) /* an escape's code has the highest bit */
                index = _mm256_blendv_epi8(index, znn_expand(_mm256_cmpgt_epi8(zero, index), &d->escaped), index);
            znn_store(out, index);
        }
    }
    if (rows)
        memset(out, 0, rows * d->lanes);
}

bool znn_narrow_escapes_read_avx2(uint8_t *indices, const znn_narrow_table *t, size_t count, const uint8_t *src)
{
    if (t->escape_bits == 0) {
        memset(indices, t->tail[0], count);
        return count == 0 || t->tail_count;
    }
    const znn_unpacking unpacking = znn_unpacking_of(t->escape_bits);
    const __m128i right = _mm_cvtsi32_si128(16 - (int)t->escape_bits);
    const znn_table64 tail = znn_table64_load(t->tail, 4);
    const __m256i limit = _mm256_set1_epi8((char)t->tail_count);
    uint32_t wrong = 0;
    for (size_t i = 0; i < count; i += 32, src += 4 * t->escape_bits) {
        const znn_words words = znn_unpack(&unpacking, src);
        __m256i place = _mm256_packus_epi16(_mm256_srl_epi16(words.low, right), _mm256_srl_epi16(words.high, right));
        const uint32_t here = count - i >= 32 ? ~UINT32_C(0) : (UINT32_C(1) << (count - i)) - 1;
        wrong |= ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpgt_epi8(limit, place)) & here;
        znn_store(indices + i, znn_look_up64(&tail, 4, place));
        const size_t bits = (count - i) * t->escape_bits;
        if (count - i < 32 && bits % 8)
            wrong |= src[bits / 8] >> bits % 8;
    }
    return !wrong;
}

/* ---- the other way ---- */

typedef struct {
    znn_table64 rank;                       /* by code: the order of those that there are */
    znn_table64 freq, start, reciprocal[2]; /* by rank; low and high byte */
    znn_table256 slot_of;                   /* spread */
} encoder;

typedef struct {
    bool spread;
    bool many; /* codes: more than 32 */
} encoder_shape;

/* One symbol of 32 lanes, backwards; refill bytes go before *end. */
ZNN_INLINE void encode_step(const encoder *e, const encoder_shape shape, __m256i code, __m256i *low, __m256i *high,
                            uint8_t **end)
{
    const __m256i byte = _mm256_set1_epi16(0x00ff);
    const unsigned parts = shape.many ? 4 : 2;
    /* of an escape's code, the index */
    code = _mm256_and_si256(code, _mm256_set1_epi8(ZNN_NARROW_INDICES - 1));
    __m256i rank = shape.many ? code : znn_look_up64(&e->rank, 4, code);
    __m256i freq = znn_look_up64(&e->freq, parts, rank), start = znn_look_up64(&e->start, parts, rank);
    __m256i rl = znn_look_up64(&e->reciprocal[0], parts, rank), rh = znn_look_up64(&e->reciprocal[1], parts, rank);
    /* x >= freq << 8: a byte leaves */
    __m256i leaves = _mm256_cmpeq_epi8(_mm256_max_epu8(*high, freq), *high);
    const uint32_t mask = (uint32_t)_mm256_movemask_epi8(leaves);
    /* Each quarter's bytes at the top of 8, so that the quarter before it overwrites what is below. */
    __m256i bytes = _mm256_shuffle_epi8(*low, znn_mask_shuffle(znn_compress8, mask));
    __m128 b0 = _mm_castsi128_ps(_mm256_castsi256_si128(bytes)),
           b1 = _mm_castsi128_ps(_mm256_extracti128_si256(bytes, 1));
    uint8_t *p = *end;
    _mm_storeh_pi((__m64 *)(void *)(p - 8), b1);
    _mm_storel_pi((__m64 *)(void *)(p - _mm_popcnt_u32(mask >> 24) - 8), b1);
    _mm_storeh_pi((__m64 *)(void *)(p - _mm_popcnt_u32(mask >> 16) - 8), b0);
    _mm_storel_pi((__m64 *)(void *)(p - _mm_popcnt_u32(mask >> 8) - 8), b0);
    *end = p - _mm_popcnt_u32(mask);
    __m256i l = _mm256_blendv_epi8(*low, *high, leaves), h = _mm256_andnot_si256(leaves, *high);
    __m256i quotient[2], rest[2];
    for (unsigned odd = 0; odd < 2; odd++) {
        __m256i x = odd ? _mm256_blendv_epi8(h, _mm256_srli_epi16(l, 8), byte)
                        : _mm256_blendv_epi8(_mm256_slli_epi16(h, 8), l, byte);
        __m256i r = odd ? _mm256_blendv_epi8(rh, _mm256_srli_epi16(rl, 8), byte)
                        : _mm256_blendv_epi8(_mm256_slli_epi16(rh, 8), rl, byte);
        __m256i f = odd ? _mm256_srli_epi16(freq, 8) : _mm256_and_si256(freq, byte);
        /* r is 65536 / freq rounded down, so q is x / freq or one less */
        __m256i q = _mm256_mulhi_epu16(x, r);
        __m256i m = _mm256_sub_epi16(x, _mm256_mullo_epi16(q, f)); /* less than 2 freq */
        __m256i less = _mm256_cmpgt_epi16(f, m);
        quotient[odd] = _mm256_add_epi16(_mm256_add_epi16(q, _mm256_set1_epi16(1)), less);
        rest[odd] = _mm256_sub_epi16(m, _mm256_andnot_si256(less, f));
    }
    __m256i remainder = _mm256_blendv_epi8(_mm256_slli_epi16(rest[1], 8), rest[0], byte);
    __m256i nth = _mm256_add_epi8(remainder, start); /* below 256 */
    *low = shape.spread ? znn_look_up256(&e->slot_of, nth) : nth;
    *high = _mm256_blendv_epi8(_mm256_slli_epi16(quotient[1], 8), quotient[0], byte);
}

ZNN_INLINE size_t encode(const encoder *e, unsigned lanes, const uint8_t *codes, size_t rows, const uint16_t *initial,
                         uint8_t *dst_end, const encoder_shape shape)
{
    _Alignas(32) uint8_t low[ZNN_NARROW_LANES_MAX], high[ZNN_NARROW_LANES_MAX];
    for (unsigned l = 0; l < lanes; l++) {
        low[l] = (uint8_t)initial[l];
        high[l] = (uint8_t)(initial[l] >> 8);
    }
    uint8_t *p = dst_end;
    for (const uint8_t *s = codes + rows * lanes; s != codes;)
        for (unsigned l = lanes; l > 0;) {
            l -= 32;
            s -= 32;
            __m256i x = znn_load(low + l), y = znn_load(high + l);
            encode_step(e, shape, znn_load(s), &x, &y, &p);
            znn_store(low + l, x);
            znn_store(high + l, y);
        }
    memcpy(p -= lanes, high, lanes);
    memcpy(p -= lanes, low, lanes);
    return (size_t)(dst_end - p);
}

size_t znn_narrow_encode_avx2(const znn_narrow_table *t, unsigned lanes, const uint8_t *codes, size_t rows,
                              const uint16_t *initial, uint8_t *dst_end)
{
    unsigned n = 0;
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++)
        n += t->freq[i] != 0;
    const encoder_shape shape = {.spread = t->spread, .many = n > 32};
    uint8_t rank[ZNN_NARROW_INDICES] = {0}, bytes[4][ZNN_NARROW_INDICES] = {{0}};
    n = 0;
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        if (!t->freq[i])
            continue;
        rank[i] = (uint8_t)(shape.many ? i : n++);
        const unsigned r = ZNN_MIN(65536u / t->freq[i], 65535);
        bytes[0][rank[i]] = t->freq[i];
        bytes[1][rank[i]] = t->start[i];
        bytes[2][rank[i]] = (uint8_t)r;
        bytes[3][rank[i]] = (uint8_t)(r >> 8);
    }
    encoder e;
    const unsigned parts = shape.many ? 4 : 2;
    e.rank = znn_table64_load(rank, 4);
    e.freq = znn_table64_load(bytes[0], parts);
    e.start = znn_table64_load(bytes[1], parts);
    e.reciprocal[0] = znn_table64_load(bytes[2], parts);
    e.reciprocal[1] = znn_table64_load(bytes[3], parts);
    e.slot_of = znn_table256_load(t->slot_of);
    /* one body a shape, so that the compiler knows it */
    if (shape.spread)
        return shape.many ? encode(&e, lanes, codes, rows, initial, dst_end, (encoder_shape){true, true})
                          : encode(&e, lanes, codes, rows, initial, dst_end, (encoder_shape){true, false});
    return shape.many ? encode(&e, lanes, codes, rows, initial, dst_end, (encoder_shape){false, true})
                      : encode(&e, lanes, codes, rows, initial, dst_end, (encoder_shape){false, false});
}
