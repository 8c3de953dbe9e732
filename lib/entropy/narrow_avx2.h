/*
 * The narrow coder's step with AVX2: 32 lanes a vector.
 *
 * Codes are numbered in the order of their slots: the code's rank, 0 to 63, is what
 * tables of 16-byte shuffles are read by. Slots that are neighbours need no table of
 * 256: one of 64 has the rank at each fourth slot, and which of the three after it
 * begin a code.
 *
 * Safety: a state is a slot of 8 bits and a high byte, and both are only used in
 * registers, so no stream can make this code touch memory outside. The only reads
 * from memory are the refills, for which znn_narrow_decoder_ready promises `lanes`
 * bytes a row and a vector more beyond d->next, and the escapes, of which there is one
 * for every symbol; where they are not taken one by one, 8 bytes are read at up
 * to 24 beyond the next.
 */
#ifndef ZNN_NARROW_AVX2_H
#define ZNN_NARROW_AVX2_H

#include "base/shuffles_avx2.h"
#include "entropy/narrow.h"

/* Tables by rank are of `parts` parts: 2, or 4 where there are more than 32 codes. */
typedef struct {
    znn_table64 quads;    /* neighbours, 2 parts: by slot / 4, the rank << 3 | bit i: slot 4 n + 1 + i begins a code */
    __m256i below, count; /* by slot % 4, such bits up to it; how many bits are set */
    znn_table256 rank;    /* other tables: by slot */
    znn_table256 offset;  /* spread */
    znn_table64 freq, start; /* by rank; start if not spread */
    znn_table64 index;
    __m256i escape; /* its rank */
} znn_narrow_vectors;

typedef struct {
    bool spread;
    bool many;  /* codes: more than 32 */
    bool large; /* frequencies: one of more than 127 */
} znn_narrow_shape;

static inline znn_narrow_shape znn_narrow_vectors_load(znn_narrow_vectors *r, const znn_narrow_table *t)
{
    uint8_t codes[ZNN_NARROW_INDICES] = {0}, rank_of_slot[256], bytes[3][ZNN_NARROW_INDICES] = {{0}};
    const unsigned n = znn_narrow_ranks(t, codes, rank_of_slot);
    znn_narrow_shape shape = {.spread = t->spread, .many = n > 32};
    for (unsigned i = 0; i < n; i++) {
        const unsigned s = codes[i] % ZNN_NARROW_INDICES;
        shape.large = shape.large || t->freq[s] > 127;
        bytes[0][i] = t->freq[s];
        bytes[1][i] = t->start[s];
        bytes[2][i] = (uint8_t)s;
    }
    const unsigned parts = shape.many ? 4 : 2;
    r->freq = znn_table64_load(bytes[0], parts);
    r->start = znn_table64_load(bytes[1], parts);
    r->index = znn_table64_load(bytes[2], parts);
    r->escape = _mm256_set1_epi8((char)(codes[0] & ZNN_NARROW_ESCAPE ? 0 : 0xff));
    if (shape.many || shape.spread) {
        r->rank = znn_table256_load(rank_of_slot);
        r->offset = znn_table256_load(t->offset_of_slot);
        return shape;
    }
    uint8_t quads[64] = {0};
    for (unsigned i = 0; i < 64; i++) {
        quads[i] = (uint8_t)(rank_of_slot[4 * i] << 3);
        for (unsigned k = 0; k < 3; k++)
            quads[i] |= (uint8_t)((rank_of_slot[4 * i + k + 1] != rank_of_slot[4 * i + k]) << k);
    }
    r->quads = znn_table64_load(quads, 4);
    r->below = _mm256_set1_epi32(0x07030100);
    r->count = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0));
    return shape;
}

ZNN_INLINE __m256i znn_narrow_rank(const znn_narrow_vectors *t, const znn_narrow_shape shape, __m256i slot)
{
    if (shape.many || shape.spread)
        return znn_look_up256(&t->rank, slot);
    const __m256i low4 = _mm256_set1_epi8(0x0f);
    __m256i quad = _mm256_and_si256(_mm256_srli_epi16(slot, 2), _mm256_set1_epi8(0x3f));
    __m256i found = znn_look_up64(&t->quads, 4, quad);
    __m256i begins = _mm256_and_si256(found, _mm256_shuffle_epi8(t->below, _mm256_and_si256(slot, low4)));
    __m256i rank = _mm256_and_si256(_mm256_srli_epi16(found, 3), _mm256_set1_epi8(0x1f));
    return _mm256_add_epi8(rank, _mm256_shuffle_epi8(t->count, begins));
}

/* 32 lanes of those ranks to their next states, but for the refills. */
ZNN_INLINE void znn_narrow_advance(const znn_narrow_vectors *t, const znn_narrow_shape shape, __m256i rank,
                                   uint8_t *low, uint8_t *high_)
{
    const __m256i slot = znn_load(low), high = znn_load(high_);
    const __m256i byte = _mm256_set1_epi16(0x00ff);
    const unsigned parts = shape.many ? 4 : 2;
    const __m256i freq = znn_look_up64(&t->freq, parts, rank);
    const __m256i offset =
        shape.spread ? znn_look_up256(&t->offset, slot) : _mm256_sub_epi8(slot, znn_look_up64(&t->start, parts, rank));
    /* freq * high + offset in 16 bits, the even and the odd lanes apart; then their
     * low and their high bytes together */
    __m256i even, odd;
    if (shape.large) {
        even = _mm256_mullo_epi16(_mm256_and_si256(freq, byte), _mm256_and_si256(high, byte));
        odd = _mm256_mullo_epi16(_mm256_srli_epi16(freq, 8), _mm256_srli_epi16(high, 8));
    } else { /* the second factor is signed; a product and nothing */
        even = _mm256_maddubs_epi16(high, _mm256_and_si256(freq, byte));
        odd = _mm256_maddubs_epi16(high, _mm256_andnot_si256(byte, freq));
    }
    even = _mm256_add_epi16(even, _mm256_and_si256(offset, byte));
    odd = _mm256_add_epi16(odd, _mm256_srli_epi16(offset, 8));
    znn_store(low, _mm256_blendv_epi8(_mm256_slli_epi16(odd, 8), even, byte));
    znn_store(high_, _mm256_blendv_epi8(odd, _mm256_srli_epi16(even, 8), byte));
}

/* Those of 32 lanes whose high byte is empty take a byte. */
ZNN_INLINE void znn_narrow_refill(uint8_t *low_, uint8_t *high_, const uint8_t **next)
{
    const __m256i low = znn_load(low_), high = znn_load(high_);
    const __m256i empty = _mm256_cmpeq_epi8(high, _mm256_setzero_si256());
    __m256i bytes = znn_expand(empty, next);
    znn_store(high_, _mm256_blendv_epi8(high, low, empty));
    znn_store(low_, _mm256_blendv_epi8(low, bytes, empty));
}

/* The ranks of `rows` rows, for which there must be enough of the stream. A row
 * is gone over three times, so that each time's tables fit into the registers: read from memory,
 * they would take longer than all else. */
ZNN_INLINE void znn_narrow_ranks_of_rows(const znn_narrow_vectors *t, const znn_narrow_shape shape,
                                         znn_narrow_decoder *d, size_t rows, uint8_t *ranks)
{
    const unsigned lanes = d->lanes;
    const uint8_t *next = d->next;
    for (; rows; rows--, ranks += lanes) {
        for (unsigned l = 0; l < lanes; l += 32)
            znn_store(ranks + l, znn_narrow_rank(t, shape, znn_load(d->low + l)));
        for (unsigned l = 0; l < lanes; l += 32)
            znn_narrow_advance(t, shape, znn_load(ranks + l), d->low + l, d->high + l);
        for (unsigned l = 0; l < lanes; l += 32)
            znn_narrow_refill(d->low + l, d->high + l, &next);
    }
    d->next = next;
}

/* do_shape(a shape known here) for every one of them. */
#define ZNN_NARROW_SHAPES(do_shape)                                                                                    \
    do_shape(false, false, false) do_shape(false, false, true) do_shape(false, true, false)                            \
        do_shape(false, true, true) do_shape(true, false, false) do_shape(true, false, true)                           \
            do_shape(true, true, false) do_shape(true, true, true)

#endif
