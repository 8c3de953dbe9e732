/*
 * The context coder with AVX-512 (VBMI, VBMI2): 64 lanes a vector, four vectors a row.
 *
 * Of a slot's distances to the 16 starts of its table, modulo 256, the least is
 * the slot's place in its symbol, and the greatest leaves what is to the symbol's end:
 * so nothing is looked up by slot, and every table is by context, in one register.
 *
 * Safety: states, contexts and indices are only used as indices into registers. What is read from memory
 * are the refills, for which `ensure` has seen to the most that a tile or a row may take and a
 * vector more, and the escapes, of which a tile takes one for every code at most, and begins with some left.
 */
#include <immintrin.h>

#include "entropy/context.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES ZNN_CONTEXT_LANES
#define TILE ZNN_CONTEXT_TILE
#define TAKES_MOST ((size_t)TILE * LANES + 64) /* of a tile; and a vector read beyond it */

/* The stream, whose last bytes are copied to where they can be read past. */
typedef struct {
    const uint8_t *next, *end;
    bool in_tail;
    uint8_t tail[2 * TAKES_MOST];
} refills;

/* Room for most bytes; false if the stream has ended too early. */
INLINE bool ensure(refills *r, size_t most)
{
    if (__builtin_expect(!r->in_tail && (size_t)(r->end - r->next) < most, 0)) {
        const size_t left = (size_t)(r->end - r->next);
        memcpy(r->tail, r->next, left);
        memset(r->tail + left, 0, sizeof r->tail - left);
        r->next = r->tail;
        r->end = r->tail + left;
        r->in_tail = true;
    }
    return r->next <= r->end;
}

typedef struct {
    __m512i low, middle, high;
} states;

INLINE states states_load(const znn_context_stream *s, unsigned v)
{
    return (states){_mm512_load_si512(s->low + 64 * v), _mm512_load_si512(s->middle + 64 * v),
                    _mm512_load_si512(s->high + 64 * v)};
}

INLINE void states_store(znn_context_stream *s, unsigned v, const states *x)
{
    _mm512_store_si512(s->low + 64 * v, x->low);
    _mm512_store_si512(s->middle + 64 * v, x->middle);
    _mm512_store_si512(s->high + 64 * v, x->high);
}

/* What is known of a slot after some of its table's starts. */
typedef struct {
    __m512i least, greatest; /* distance */
    __m512i symbol;
} place;

INLINE place place_begin(__m512i slot)
{
    return (place){slot, slot, _mm512_setzero_si512()};
}

INLINE void place_next(place *p, __m512i slot, __m512i start)
{
    const __m512i distance = _mm512_sub_epi8(slot, start);
    p->least = _mm512_min_epu8(p->least, distance);
    p->greatest = _mm512_max_epu8(p->greatest, distance);
    p->symbol = _mm512_mask_add_epi8(p->symbol, _mm512_cmple_epu8_mask(start, slot), p->symbol, _mm512_set1_epi8(1));
}

/* x = freq * (x / 256) + offset, with refills where that is below 2^16; the even and the odd lanes apart. */
INLINE void move_on(states *x, const place *p, refills *r)
{
    const __m512i byte = _mm512_set1_epi16(0x00ff), freq = _mm512_sub_epi8(p->least, p->greatest);
    const __m512i freq0 = _mm512_and_si512(freq, byte), freq1 = _mm512_srli_epi16(freq, 8);
    __m512i low0 = _mm512_mullo_epi16(freq0, _mm512_and_si512(x->middle, byte));
    __m512i low1 = _mm512_mullo_epi16(freq1, _mm512_srli_epi16(x->middle, 8));
    low0 = _mm512_add_epi16(low0, _mm512_and_si512(p->least, byte));
    low1 = _mm512_add_epi16(low1, _mm512_srli_epi16(p->least, 8));
    __m512i high0 = _mm512_mullo_epi16(freq0, _mm512_and_si512(x->high, byte));
    __m512i high1 = _mm512_mullo_epi16(freq1, _mm512_srli_epi16(x->high, 8));
    high0 = _mm512_add_epi16(high0, _mm512_srli_epi16(low0, 8));
    high1 = _mm512_add_epi16(high1, _mm512_srli_epi16(low1, 8));
    /* 0xca: byte ? first : second */
    const __m512i low = _mm512_ternarylogic_epi32(byte, low0, _mm512_slli_epi16(low1, 8), 0xca);
    const __m512i middle = _mm512_ternarylogic_epi32(byte, high0, _mm512_slli_epi16(high1, 8), 0xca);
    const __m512i high = _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(high0, 8), high1, 0xca);
    const __mmask64 refill = _mm512_testn_epi8_mask(high, high);
    x->high = _mm512_mask_mov_epi8(high, refill, middle);
    x->middle = _mm512_mask_mov_epi8(middle, refill, low);
    x->low = _mm512_mask_expand_epi8(low, refill, _mm512_loadu_si512(r->next));
    r->next += _mm_popcnt_u64(refill);
}

/* ---- encoding ---------------------------------------------------------- */

/* 16 states; the mask of those that a byte leaves. slots: start, frequency << 8. */
INLINE __mmask16 encode_states(__m512i *state, __m512i slots)
{
    __m512i x = *state;
    const __m512i freq = _mm512_and_si512(_mm512_srli_epi32(slots, 8), _mm512_set1_epi32(0xff));
    const __mmask16 leaves = _mm512_cmpge_epu32_mask(x, _mm512_slli_epi32(freq, 16));
    x = _mm512_mask_srli_epi32(x, leaves, x, 8);
    /* x and freq are exact as floats, and so the rounded quotient is right or one too large. */
    const __m512 ratio = _mm512_div_ps(_mm512_cvtepi32_ps(x), _mm512_cvtepi32_ps(freq));
    __m512i q = _mm512_cvttps_epi32(ratio);
    __m512i rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(q, freq));
    const __mmask16 less = _mm512_cmplt_epi32_mask(rest, _mm512_setzero_si512());
    q = _mm512_mask_sub_epi32(q, less, q, _mm512_set1_epi32(1));
    rest = _mm512_mask_add_epi32(rest, less, rest, freq);
    *state = _mm512_add_epi32(_mm512_slli_epi32(q, 8),
                              _mm512_add_epi32(rest, _mm512_and_si512(slots, _mm512_set1_epi32(0xff))));
    return leaves;
}

/* The bytes of `mask`, in order, before p. 64 are written: those below are overwritten by the next. */
INLINE uint8_t *leave(uint8_t *p, __m512i bytes, __mmask64 mask)
{
    static const uint8_t places[64] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                       16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                                       32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
                                       48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const unsigned count = (unsigned)_mm_popcnt_u64(mask);
    const __m512i turn = _mm512_add_epi8(_mm512_loadu_si512(places), _mm512_set1_epi8((char)count));
    _mm512_storeu_si512(p - 64, _mm512_permutexvar_epi8(turn, _mm512_maskz_compress_epi8(mask, bytes)));
    return p - count;
}

INLINE __m512i bytes_of(const __m512i x[4])
{
    __m512i bytes = _mm512_castsi128_si512(_mm512_cvtepi32_epi8(x[0]));
    bytes = _mm512_inserti32x4(bytes, _mm512_cvtepi32_epi8(x[1]), 1);
    bytes = _mm512_inserti32x4(bytes, _mm512_cvtepi32_epi8(x[2]), 2);
    return _mm512_inserti32x4(bytes, _mm512_cvtepi32_epi8(x[3]), 3);
}

/* 64 states take a symbol each. */
INLINE uint8_t *encode_vector(uint32_t states[64], const __m512i slots[4], uint8_t *p)
{
    __m512i before[4];
    __mmask64 mask = 0;
#pragma GCC unroll 4
    for (unsigned q = 0; q < 4; q++) {
        __m512i x = before[q] = _mm512_loadu_si512(states + 16 * q);
        mask |= (__mmask64)encode_states(&x, slots[q]) << 16 * q;
        _mm512_storeu_si512(states + 16 * q, x);
    }
    return leave(p, bytes_of(before), mask);
}

uint8_t *znn_context_encode_rows_avx512(const uint32_t *slots, const uint16_t *records, size_t rows,
                                        uint32_t states[ZNN_CONTEXT_LANES], uint8_t *p, uint8_t **escaped)
{
    const __m512i low6 = _mm512_set1_epi32(ZNN_CONTEXT_INDICES - 1), is_escaped = _mm512_set1_epi32(ZNN_CONTEXT_ESCAPED);
    uint8_t *next_escaped = *escaped;
    for (const uint16_t *r = records + rows * LANES; r != records;)
        for (unsigned l = LANES; l > 0;) {
            l -= 64;
            r -= 64;
            __m512i found[4], index[4];
            __mmask64 escapes = 0;
#pragma GCC unroll 4
            for (unsigned q = 0; q < 4; q++) {
                const __m512i record = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(r + 16 * q)));
                found[q] = _mm512_i32gather_epi32(record, slots, 4);
                index[q] = _mm512_and_si512(record, low6);
                escapes |= (__mmask64)_mm512_test_epi32_mask(found[q], is_escaped) << 16 * q;
            }
            next_escaped = leave(next_escaped, bytes_of(index), escapes);
            p = encode_vector(states + l, found, p);
        }
    *escaped = next_escaped;
    return p;
}

uint8_t *znn_context_encode_part_rows_avx512(const uint32_t slots[256], const uint8_t *codes, size_t rows,
                                             uint32_t states[ZNN_CONTEXT_LANES], uint8_t *p)
{
    for (const uint8_t *c = codes + rows * LANES; c != codes;)
        for (unsigned l = LANES; l > 0;) {
            l -= 64;
            c -= 64;
            __m512i found[4];
#pragma GCC unroll 4
            for (unsigned q = 0; q < 4; q++)
                found[q] = _mm512_i32gather_epi32(
                    _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(c + 16 * q))), slots, 4);
            p = encode_vector(states + l, found, p);
        }
    return p;
}

/* ---- indices ----------------------------------------------------------- */

typedef struct {
    __m512i even, odd; /* averages of the lanes */
} averages;

INLINE __m512i contexts_of(const averages *a, __m512i origin)
{
    const __m512i most = _mm512_set1_epi16(ZNN_CONTEXTS - 1);
    const __m512i even = _mm512_min_epu16(_mm512_subs_epu16(_mm512_srli_epi16(a->even, 9), origin), most);
    const __m512i odd = _mm512_min_epu16(_mm512_subs_epu16(_mm512_srli_epi16(a->odd, 9), origin), most);
    return _mm512_or_si512(even, _mm512_slli_epi16(odd, 8));
}

INLINE __m512i average_with(__m512i average, __m512i index)
{
    return _mm512_add_epi16(_mm512_sub_epi16(average, _mm512_srli_epi16(average, 4)), _mm512_slli_epi16(index, 6));
}

/* The indices of a vector's symbols; the averages go on. */
INLINE __m512i indices_of(const place *p, __m512i context, __m512i lows, averages *a, const uint8_t **escaped)
{
    const __mmask64 escapes = _mm512_cmpeq_epi8_mask(p->symbol, _mm512_set1_epi8(ZNN_CONTEXT_ESCAPE));
    __m512i index = _mm512_add_epi8(_mm512_permutexvar_epi8(context, lows), p->symbol);
    index = _mm512_mask_expand_epi8(index, escapes, _mm512_loadu_si512(*escaped));
    *escaped += _mm_popcnt_u64(escapes);
    a->even = average_with(a->even, _mm512_and_si512(index, _mm512_set1_epi16(0x00ff)));
    a->odd = average_with(a->odd, _mm512_srli_epi16(index, 8));
    return index;
}

INLINE averages averages_load(const uint16_t average[64])
{
    _Alignas(64) uint16_t even[32], odd[32];
    for (unsigned i = 0; i < 32; i++) {
        even[i] = average[2 * i];
        odd[i] = average[2 * i + 1];
    }
    return (averages){_mm512_load_si512(even), _mm512_load_si512(odd)};
}

INLINE void averages_store(uint16_t average[64], const averages *a)
{
    _Alignas(64) uint16_t even[32], odd[32];
    _mm512_store_si512(even, a->even);
    _mm512_store_si512(odd, a->odd);
    for (unsigned i = 0; i < 32; i++) {
        average[2 * i] = even[i];
        average[2 * i + 1] = odd[i];
    }
}

/* A step of 128 lanes, two vectors at once, for the tables are the same. */
INLINE void step(const znn_context_table *t, states *x0, states *x1, averages *a0, averages *a1, refills *r,
                 const uint8_t **escaped, uint8_t *indices)
{
    const __m512i lows = _mm512_loadu_si512(t->low), origin = _mm512_set1_epi16((short)t->origin);
    const __m512i context0 = contexts_of(a0, origin), context1 = contexts_of(a1, origin);
    const __m512i slot0 = x0->low, slot1 = x1->low;
    place p0 = place_begin(slot0), p1 = place_begin(slot1);
#pragma GCC unroll 15
    for (unsigned s = 1; s < ZNN_CONTEXT_SYMBOLS; s++) {
        const __m512i starts = _mm512_loadu_si512(t->start[s]);
        place_next(&p0, slot0, _mm512_permutexvar_epi8(context0, starts));
        place_next(&p1, slot1, _mm512_permutexvar_epi8(context1, starts));
    }
    move_on(x0, &p0, r);
    move_on(x1, &p1, r);
    _mm512_store_si512(indices, indices_of(&p0, context0, lows, a0, escaped));
    _mm512_store_si512(indices + 64, indices_of(&p1, context1, lows, a1, escaped));
}

/* 8 rows of 8 doublewords, turned. */
INLINE void transpose64(__m512i x[8])
{
    __m512i y[8];
    for (unsigned i = 0; i < 8; i += 2) {
        y[i] = _mm512_unpacklo_epi64(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi64(x[i], x[i + 1]);
    }
    __m512i z[8];
    for (unsigned h = 0; h < 2; h++)
        for (unsigned i = 0; i < 8; i += 4) {
            z[i + h] = _mm512_shuffle_i64x2(y[i + h], y[i + h + 2], 0x88);     /* 128-bit parts 0 and 2 */
            z[i + h + 2] = _mm512_shuffle_i64x2(y[i + h], y[i + h + 2], 0xdd); /* and 1 and 3 */
        }
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = i % 2 + i / 2 * 2; /* h, and which parts */
        x[row] = _mm512_shuffle_i64x2(z[row], z[row + 4], 0x88);
        x[row + 4] = _mm512_shuffle_i64x2(z[row], z[row + 4], 0xdd);
    }
}

/* 64 rows of 64 bytes, `stride` apart, turned: row i becomes row turned_row(i) of out. */
INLINE void transpose(const uint8_t *rows, size_t stride, __m512i out[64])
{
    __m512i(*eights)[8] = (__m512i(*)[8])out; /* of 8 rows: 8 columns each, 2 neighbours of every 16 */
    for (unsigned s = 0; s < 8; s++) {
        __m512i r[8], b[8], w[8];
        for (unsigned i = 0; i < 8; i++)
            r[i] = _mm512_loadu_si512(rows + (8 * s + i) * stride);
        for (unsigned i = 0; i < 4; i++) {
            b[2 * i] = _mm512_unpacklo_epi8(r[2 * i], r[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_epi8(r[2 * i], r[2 * i + 1]);
        }
        for (unsigned i = 0; i < 2; i++)
            for (unsigned h = 0; h < 2; h++) {
                w[4 * i + 2 * h] = _mm512_unpacklo_epi16(b[4 * i + h], b[4 * i + 2 + h]);
                w[4 * i + 2 * h + 1] = _mm512_unpackhi_epi16(b[4 * i + h], b[4 * i + 2 + h]);
            }
        for (unsigned k = 0; k < 4; k++) {
            eights[2 * k][s] = _mm512_unpacklo_epi32(w[k], w[4 + k]);
            eights[2 * k + 1][s] = _mm512_unpackhi_epi32(w[k], w[4 + k]);
        }
    }
    for (unsigned k = 0; k < 8; k++)
        transpose64(eights[k]);
}

/* Which column is row i of what transpose gives: of 8 columns, 2 neighbours of each quarter. */
INLINE unsigned turned_row(unsigned i)
{
    return i % 8 / 2 * 16 + i / 8 * 2 + i % 2;
}

/* 64 steps of 64 lanes, LANES bytes apart, to a group a lane. elements: where each position's element is. */
INLINE void groups_put(const uint8_t *steps, uint8_t *codes, size_t groups, unsigned lane, size_t tile,
                       __m512i elements)
{
    __m512i of_lane[64];
    transpose(steps, LANES, of_lane);
    for (unsigned i = 0; i < 64; i++) {
        const size_t group = znn_context_first_group(groups, lane + turned_row(i)) + tile;
        _mm512_storeu_si512(codes + 64 * group, _mm512_permutexvar_epi8(elements, of_lane[i]));
    }
}

size_t znn_context_tiles_avx512(const znn_context_table *t, znn_context_stream *stream,
                                uint16_t average[ZNN_CONTEXT_LANES], uint8_t *codes, size_t groups, size_t tiles,
                                const uint8_t positions[64], const uint8_t **escaped, const uint8_t *escaped_end)
{
    refills r;
    r.next = stream->next;
    r.end = stream->end;
    r.in_tail = false;
    states x0 = states_load(stream, 0), x1 = states_load(stream, 1), x2 = states_load(stream, 2),
           x3 = states_load(stream, 3);
    averages a0 = averages_load(average), a1 = averages_load(average + 64), a2 = averages_load(average + 128),
             a3 = averages_load(average + 192);
    _Alignas(64) uint8_t element[64], steps[TILE * LANES];
    for (unsigned i = 0; i < 64; i++)
        element[positions[i]] = (uint8_t)i;
    const __m512i elements = _mm512_load_si512(element);
    const uint8_t *next_escaped = *escaped;
    size_t tile = 0;
    for (; tile < tiles && next_escaped <= escaped_end && ensure(&r, TAKES_MOST); tile++) {
        for (uint8_t *row = steps; row < steps + TILE * LANES; row += LANES) {
            step(t, &x0, &x1, &a0, &a1, &r, &next_escaped, row);
            step(t, &x2, &x3, &a2, &a3, &r, &next_escaped, row + 128);
        }
        for (unsigned lane = 0; lane < LANES; lane += 64)
            groups_put(steps + lane, codes, groups, lane, tile, elements);
    }
    if (r.next > r.end || next_escaped > escaped_end)
        return SIZE_MAX;
    stream->next = stream->end - (r.end - r.next);
    *escaped = next_escaped;
    states_store(stream, 0, &x0);
    states_store(stream, 1, &x1);
    states_store(stream, 2, &x2);
    states_store(stream, 3, &x3);
    averages_store(average, &a0);
    averages_store(average + 64, &a1);
    averages_store(average + 128, &a2);
    averages_store(average + 192, &a3);
    return tile;
}

/* ---- mantissa bits ----------------------------------------------------- */

INLINE void codes_put(uint8_t *codes, states *x, const __m512i starts[ZNN_CONTEXT_PARTS], refills *r)
{
    const __m512i index = _mm512_loadu_si512(codes), slot = x->low;
    place p = place_begin(slot);
    for (unsigned s = 1; s < ZNN_CONTEXT_PARTS; s++)
        place_next(&p, slot, _mm512_permutexvar_epi8(index, starts[s]));
    move_on(x, &p, r);
    /* indices have 6 bits: none goes to its neighbour */
    _mm512_storeu_si512(codes, _mm512_or_si512(_mm512_slli_epi16(index, 2), p.symbol));
}

size_t znn_context_part_rows_avx512(const znn_context_table *t, znn_context_stream *stream, uint8_t *codes, size_t rows)
{
    refills r;
    r.next = stream->next;
    r.end = stream->end;
    r.in_tail = false;
    states x0 = states_load(stream, 0), x1 = states_load(stream, 1), x2 = states_load(stream, 2),
           x3 = states_load(stream, 3);
    __m512i starts[ZNN_CONTEXT_PARTS];
    for (unsigned s = 0; s < ZNN_CONTEXT_PARTS; s++)
        starts[s] = _mm512_loadu_si512(t->part_start[s]);
    size_t row = 0;
    for (; row < rows && ensure(&r, LANES + 64); row++, codes += LANES) {
        codes_put(codes, &x0, starts, &r);
        codes_put(codes + 64, &x1, starts, &r);
        codes_put(codes + 128, &x2, starts, &r);
        codes_put(codes + 192, &x3, starts, &r);
    }
    if (r.next > r.end)
        return SIZE_MAX;
    stream->next = stream->end - (r.end - r.next);
    states_store(stream, 0, &x0);
    states_store(stream, 1, &x1);
    states_store(stream, 2, &x2);
    states_store(stream, 3, &x3);
    return row;
}

/* ---- the model --------------------------------------------------------- */

/* Of two vectors whose 128-bit parts alternate: the lower half of all, and the upper. */
INLINE __m512i pairs_below(void)
{
    return _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
}

INLINE __m512i pairs_above(void)
{
    return _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
}

/* The indices of 64 lanes' groups, an element a step. positions: where each element's position is. */
INLINE void groups_get(uint8_t *steps, const uint8_t *codes, size_t groups, unsigned lane, size_t tile,
                       __m512i positions)
{
    _Alignas(64) uint8_t rows[64][64];
    __m512i of_step[64];
    const __m512i low6 = _mm512_set1_epi8(ZNN_CONTEXT_INDICES - 1);
    for (unsigned l = 0; l < 64; l++) {
        const size_t group = znn_context_first_group(groups, lane + l) + tile;
        const __m512i code = _mm512_permutexvar_epi8(positions, _mm512_loadu_si512(codes + 64 * group));
        _mm512_store_si512(rows[l], _mm512_and_si512(_mm512_srli_epi16(code, 2), low6));
    }
    transpose(rows[0], 64, of_step);
    for (unsigned i = 0; i < 64; i++)
        _mm512_store_si512(steps + turned_row(i) * LANES, of_step[i]);
}

void znn_context_record_tiles_avx512(uint16_t average[ZNN_CONTEXT_LANES], unsigned origin, uint16_t *records,
                                     const uint8_t *codes, size_t groups, size_t tiles, const uint8_t position[64])
{
    const __m512i positions = _mm512_loadu_si512(position), origins = _mm512_set1_epi16((short)origin);
    const __m512i byte = _mm512_set1_epi16(0x00ff), low_words = _mm512_set1_epi32(0xffff);
    _Alignas(64) uint8_t steps[TILE * LANES];
    averages a[4];
    for (unsigned v = 0; v < 4; v++)
        a[v] = averages_load(average + 64 * v);
    for (size_t tile = 0; tile < tiles; tile++) {
        for (unsigned lane = 0; lane < LANES; lane += 64)
            groups_get(steps + lane, codes, groups, lane, tile, positions);
        for (const uint8_t *row = steps; row < steps + TILE * LANES; row += LANES, records += LANES)
#pragma GCC unroll 4
            for (unsigned v = 0; v < 4; v++) {
                const __m512i index = _mm512_load_si512(row + 64 * v), context = contexts_of(&a[v], origins);
                const __m512i even_index = _mm512_and_si512(index, byte), odd_index = _mm512_srli_epi16(index, 8);
                /* of the even and the odd lanes, then of neighbours */
                const __m512i even = _mm512_or_si512(_mm512_slli_epi16(_mm512_and_si512(context, byte), 6), even_index);
                const __m512i odd = _mm512_or_si512(_mm512_slli_epi16(_mm512_srli_epi16(context, 8), 6), odd_index);
                const __m512i low = _mm512_ternarylogic_epi32(low_words, even, _mm512_slli_epi32(odd, 16), 0xca);
                const __m512i high = _mm512_ternarylogic_epi32(low_words, _mm512_srli_epi32(even, 16), odd, 0xca);
                const __m512i first = _mm512_unpacklo_epi32(low, high), second = _mm512_unpackhi_epi32(low, high);
                _mm512_storeu_si512(records + 64 * v, _mm512_permutex2var_epi64(first, pairs_below(), second));
                _mm512_storeu_si512(records + 64 * v + 32, _mm512_permutex2var_epi64(first, pairs_above(), second));
                a[v].even = average_with(a[v].even, even_index);
                a[v].odd = average_with(a[v].odd, odd_index);
            }
    }
    for (unsigned v = 0; v < 4; v++)
        averages_store(average + 64 * v, &a[v]);
}
