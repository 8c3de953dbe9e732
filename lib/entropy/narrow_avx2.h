/*
 * The narrow coder's step with AVX2: 32 lanes a vector.
 *
 * Codes are ranked by their place in the list of slots, where those of a code are neighbours. A spread
 * slot's place is a product. What is looked up by rank is in two tables of 16, the sum of which counts: one vector
 * of numbers reads the first table, one the second, and a number of 0x80 or more reads 0.
 *
 * - In blocks of 16 places, two codes at most begin within any but the first block: the block's first code, and whether
 *   the place is at or beyond where these two begin, give the number in one table, the place in the first block that
 *   in the other. That is what weights mostly have: rare codes come first.
 * - Of any other 32 codes, a table has the rank at each fourth place, and which of the three after it begin a code.
 * - Else all is looked up by slot, and by rank in four tables.
 *
 * The offset of a slot that is not spread is its distance from the code's first. Slots that are spread lie so evenly
 * that the offset is frequency * slot / 256, but for a difference of at most 2; where a table has four such differences
 * or fewer, as most do, two bits a slot tell which, and the next state is frequency * state / 256 and that difference.
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

#define ZNN_FIRST_BLOCK 16

/* How a code is found, and how a slot's offset. */
typedef enum { ZNN_BY_BLOCK, ZNN_BY_QUAD, ZNN_BY_SLOT } znn_narrow_codes;
typedef enum { ZNN_FROM_START, ZNN_NEARLY_EVEN, ZNN_OF_SLOT } znn_narrow_offsets;

typedef struct {
    znn_narrow_codes codes;
    znn_narrow_offsets offsets;
    bool spread;
    bool large; /* frequencies may be more than 127, which a signed factor cannot */
} znn_narrow_shape;

/* do_shape(a shape known here) for every one of them that there is. */
#define ZNN_NARROW_SHAPES(do_shape)                                                                                    \
    do_shape(ZNN_BY_BLOCK, ZNN_FROM_START, false, false) do_shape(ZNN_BY_QUAD, ZNN_FROM_START, false, false)           \
        do_shape(ZNN_BY_QUAD, ZNN_FROM_START, false, true) do_shape(ZNN_BY_BLOCK, ZNN_NEARLY_EVEN, true, false)        \
            do_shape(ZNN_BY_QUAD, ZNN_NEARLY_EVEN, true, false) do_shape(ZNN_BY_QUAD, ZNN_OF_SLOT, true, true)         \
                do_shape(ZNN_BY_SLOT, ZNN_OF_SLOT, false, true)

typedef struct {
    znn_narrow_shape shape;
    uint8_t codes[ZNN_NARROW_INDICES]; /* by rank */
    uint8_t rank_of_place[256];
    __m256i first, begin[2];     /* by block: the number of the first code; the places before the others */
    znn_table64 quads;           /* by place / 4: the rank << 3 | bit i: place 4 n + 1 + i begins a code */
    __m256i below, count;        /* by place % 4, such bits up to it; how many bits are set */
    znn_table256 rank, offset;   /* by slot */
    znn_table64 uneven;          /* by slot / 4: 2 bits a slot, the first lowest */
    __m256i uneven_at, uneven_is; /* by slot % 4, those bits; by these, wherever they stand, the difference */
    znn_table64 freq, start;     /* by code */
} znn_narrow_vectors;

/* Numbers of codes. */
typedef struct {
    __m256i a, b;
} znn_codes;

/* A table by code of what there is by rank. */
static inline znn_table64 znn_narrow_by_code(const znn_narrow_vectors *t, const uint8_t by_rank[ZNN_NARROW_INDICES])
{
    if (t->shape.codes != ZNN_BY_BLOCK)
        return znn_table64_load(by_rank, t->shape.codes == ZNN_BY_QUAD ? 2 : 4);
    uint8_t first_block[ZNN_FIRST_BLOCK];
    for (unsigned i = 0; i < ZNN_FIRST_BLOCK; i++)
        first_block[i] = by_rank[t->rank_of_place[i]];
    return (znn_table64){{znn_part(first_block, true), znn_part(by_rank + t->rank_of_place[ZNN_FIRST_BLOCK], true)}};
}

/* Each lane's value in such a table. */
ZNN_INLINE __m256i znn_narrow_look_up(const znn_table64 *by_code, const znn_narrow_shape shape, znn_codes c)
{
    if (shape.codes == ZNN_BY_SLOT)
        return znn_look_up64(by_code, 4, c.a);
    return _mm256_xor_si256(_mm256_shuffle_epi8(by_code->parts[1], c.a), _mm256_shuffle_epi8(by_code->parts[0], c.b));
}

/* False if more codes begin in a block than there is room for. */
static inline bool znn_narrow_blocks_load(znn_narrow_vectors *r, unsigned codes)
{
    uint8_t first[16], begin[2][16];
    const uint8_t *const rank = r->rank_of_place, lowest = rank[ZNN_FIRST_BLOCK];
    if (codes - lowest > 16)
        return false;
    memset(first, 0x80, sizeof first);
    memset(begin, 0x7f, sizeof begin); /* no place is beyond that */
    for (unsigned block = 1; block < 16; block++) {
        first[block] = (uint8_t)(rank[16 * block] - lowest);
        unsigned n = 0;
        for (unsigned i = 16 * block; i < 16 * block + 15; i++)
            if (rank[i + 1] != rank[i]) {
                if (n == 2)
                    return false;
                begin[n++][block] = (uint8_t)i;
            }
    }
    r->first = znn_part(first, true);
    for (unsigned i = 0; i < 2; i++)
        r->begin[i] = znn_part(begin[i], true);
    return true;
}

static inline void znn_narrow_quads_load(znn_narrow_vectors *r)
{
    const uint8_t *const rank = r->rank_of_place;
    uint8_t quads[64] = {0};
    for (unsigned i = 0; i < 64; i++) {
        quads[i] = (uint8_t)(rank[4 * i] << 3);
        for (unsigned k = 0; k < 3; k++)
            quads[i] |= (uint8_t)((rank[4 * i + k + 1] != rank[4 * i + k]) << k);
    }
    r->quads = znn_table64_load(quads, 4);
    r->below = _mm256_set1_epi32(0x07030100);
    r->count = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0));
}

/* False if there are more than four differences. */
static inline bool znn_narrow_uneven_load(znn_narrow_vectors *r, const znn_narrow_table *t)
{
    int difference[256], least = 0, most = 0;
    for (unsigned slot = 0; slot < 256; slot++) {
        const unsigned freq = t->freq[t->code_of_slot[slot] % ZNN_NARROW_INDICES];
        difference[slot] = t->offset_of_slot[slot] - (int)(freq * slot / 256);
        least = ZNN_MIN(least, difference[slot]);
        most = ZNN_MAX(most, difference[slot]);
    }
    if (most - least > 3)
        return false;
    uint8_t uneven[64] = {0};
    for (unsigned slot = 0; slot < 256; slot++)
        uneven[slot / 4] |= (uint8_t)((difference[slot] - least) << 2 * (slot % 4));
    int8_t is[16] = {0};
    for (int i = 0; i < 4; i++)
        is[i] = is[4 * i] = (int8_t)(least + i);
    r->uneven = znn_table64_load(uneven, 4);
    r->uneven_at = _mm256_set1_epi32((int)0xc0300c03u);
    r->uneven_is = znn_part((const uint8_t *)is, true);
    return true;
}

static inline znn_narrow_shape znn_narrow_vectors_load(znn_narrow_vectors *r, const znn_narrow_table *t)
{
    uint8_t rank_of_slot[256], bytes[2][ZNN_NARROW_INDICES] = {{0}};
    memset(r->codes, 0, sizeof r->codes);
    const unsigned n = znn_narrow_ranks(t, r->codes, rank_of_slot);
    for (unsigned i = 0, place = 0; i < n; i++) {
        const unsigned s = r->codes[i] % ZNN_NARROW_INDICES;
        bytes[0][i] = t->freq[s];
        bytes[1][i] = t->start[s];
        memset(r->rank_of_place + place, (int)i, t->freq[s]);
        place += t->freq[s];
    }
    const bool even = t->spread && n <= 32 && znn_narrow_uneven_load(r, t);
    if (n > 32) {
        r->shape = (znn_narrow_shape){ZNN_BY_SLOT, ZNN_OF_SLOT, false, true};
        r->rank = znn_table256_load(rank_of_slot);
    } else if ((t->spread ? even : t->most <= 127) && znn_narrow_blocks_load(r, n)) {
        r->shape = (znn_narrow_shape){ZNN_BY_BLOCK, even ? ZNN_NEARLY_EVEN : ZNN_FROM_START, t->spread, false};
    } else {
        r->shape = (znn_narrow_shape){.codes = ZNN_BY_QUAD, .spread = t->spread};
        r->shape.large = !even && (t->spread || t->most > 127);
        r->shape.offsets = even ? ZNN_NEARLY_EVEN : t->spread ? ZNN_OF_SLOT : ZNN_FROM_START;
        znn_narrow_quads_load(r);
    }
    if (r->shape.offsets == ZNN_OF_SLOT)
        r->offset = znn_table256_load(t->offset_of_slot);
    r->freq = znn_narrow_by_code(r, bytes[0]);
    r->start = znn_narrow_by_code(r, bytes[1]);
    return r->shape;
}

/* slot * ZNN_NARROW_SPREAD mod 256 */
ZNN_INLINE __m256i znn_narrow_place(__m256i slot)
{
    const __m256i byte = _mm256_set1_epi16(0x00ff), factor = _mm256_set1_epi16(ZNN_NARROW_SPREAD);
    return _mm256_blendv_epi8(_mm256_mullo_epi16(_mm256_andnot_si256(byte, slot), factor),
                              _mm256_mullo_epi16(slot, factor), byte);
}

ZNN_INLINE __m256i znn_divided(__m256i bytes, const unsigned bits)
{
    return _mm256_and_si256(_mm256_srli_epi16(bytes, (int)bits), _mm256_set1_epi8((char)(0xff >> bits)));
}

ZNN_INLINE znn_codes znn_narrow_codes_of(const znn_narrow_vectors *t, const znn_narrow_shape shape, __m256i slot)
{
    if (shape.codes == ZNN_BY_SLOT)
        return (znn_codes){.a = znn_look_up256(&t->rank, slot)};
    const __m256i place = shape.spread ? znn_narrow_place(slot) : slot;
    const __m256i beyond15 = _mm256_set1_epi8(0x70);
    if (shape.codes == ZNN_BY_BLOCK) {
        const __m256i block = znn_divided(place, 4);
        __m256i a = _mm256_shuffle_epi8(t->first, block);
        for (unsigned i = 0; i < 2; i++) /* the sign does not matter: both are in the same block */
            a = _mm256_sub_epi8(a, _mm256_cmpgt_epi8(place, _mm256_shuffle_epi8(t->begin[i], block)));
        return (znn_codes){a, _mm256_adds_epu8(place, beyond15)};
    }
    __m256i found = znn_look_up64(&t->quads, 4, znn_divided(place, 2));
    __m256i begins = _mm256_and_si256(
        found, _mm256_shuffle_epi8(t->below, _mm256_and_si256(place, _mm256_set1_epi8(0x0f))));
    __m256i rank = _mm256_add_epi8(znn_divided(found, 3), _mm256_shuffle_epi8(t->count, begins));
    return (znn_codes){rank, _mm256_add_epi8(rank, beyond15)};
}

/* What is to be added to freq * slot / 256 for a slot's offset: -2 to 2. */
ZNN_INLINE __m256i znn_narrow_uneven(const znn_narrow_vectors *t, __m256i slot)
{
    const __m256i low4 = _mm256_set1_epi8(0x0f);
    __m256i two = _mm256_and_si256(znn_look_up64(&t->uneven, 4, znn_divided(slot, 2)),
                                   _mm256_shuffle_epi8(t->uneven_at, _mm256_and_si256(slot, low4)));
    two = _mm256_and_si256(_mm256_or_si256(two, _mm256_srli_epi16(two, 4)), low4);
    return _mm256_shuffle_epi8(t->uneven_is, two);
}

/* 32 lanes of those codes to their next states, but for the refills. */
ZNN_INLINE void znn_narrow_advance(const znn_narrow_vectors *t, const znn_narrow_shape shape, znn_codes codes,
                                   uint8_t *low, uint8_t *high_)
{
    const __m256i zero = _mm256_setzero_si256(), one = _mm256_set1_epi8(1);
    const __m256i slot = znn_load(low), high = znn_load(high_);
    const __m256i freq = znn_narrow_look_up(&t->freq, shape, codes);
    /* In 16 bits: of each 16 lanes the first 8, and the others. */
    __m256i x[2];
    if (shape.offsets == ZNN_NEARLY_EVEN) { /* freq * state / 256 */
        __m256i more = znn_narrow_uneven(t, slot), sign = _mm256_cmpgt_epi8(zero, more);
        x[0] = _mm256_mulhi_epu16(_mm256_unpacklo_epi8(slot, high), _mm256_unpacklo_epi8(zero, freq));
        x[1] = _mm256_mulhi_epu16(_mm256_unpackhi_epi8(slot, high), _mm256_unpackhi_epi8(zero, freq));
        x[0] = _mm256_add_epi16(x[0], _mm256_unpacklo_epi8(more, sign));
        x[1] = _mm256_add_epi16(x[1], _mm256_unpackhi_epi8(more, sign));
    } else {
        const __m256i offset = shape.offsets == ZNN_OF_SLOT
                                   ? znn_look_up256(&t->offset, slot)
                                   : _mm256_sub_epi8(slot, znn_narrow_look_up(&t->start, shape, codes));
        if (shape.large) {
            x[0] = _mm256_mullo_epi16(_mm256_unpacklo_epi8(high, zero), _mm256_unpacklo_epi8(freq, zero));
            x[1] = _mm256_mullo_epi16(_mm256_unpackhi_epi8(high, zero), _mm256_unpackhi_epi8(freq, zero));
            x[0] = _mm256_add_epi16(x[0], _mm256_unpacklo_epi8(offset, zero));
            x[1] = _mm256_add_epi16(x[1], _mm256_unpackhi_epi8(offset, zero));
        } else { /* high * freq + offset * 1; the factors on the right are signed, and the sum is below 2^15 */
            x[0] = _mm256_maddubs_epi16(_mm256_unpacklo_epi8(high, offset), _mm256_unpacklo_epi8(freq, one));
            x[1] = _mm256_maddubs_epi16(_mm256_unpackhi_epi8(high, offset), _mm256_unpackhi_epi8(freq, one));
        }
    }
    const __m256i apart = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    x[0] = _mm256_shuffle_epi8(x[0], apart);
    x[1] = _mm256_shuffle_epi8(x[1], apart);
    znn_store(low, _mm256_unpacklo_epi64(x[0], x[1]));
    znn_store(high_, _mm256_unpackhi_epi64(x[0], x[1]));
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

/* `rows` rows, for which there must be enough of the stream: their codes' numbers. */
void znn_narrow_rows_avx2(const znn_narrow_vectors *t, znn_narrow_decoder *d, size_t rows, uint8_t *a, uint8_t *b);

#endif
