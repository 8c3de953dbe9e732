/*
 * The narrow coder's rows without vector code: passes over arrays, so plain that a compiler
 * makes what vectors it has of them, and takes few instructions a lane of what it cannot.
 * Lanes that need something now and then are flagged, and listed.
 */
#ifndef ZNN_NARROW_ROWS_H
#define ZNN_NARROW_ROWS_H

#include "base/shuffles.h"
#include "base/words8.h"
#include "entropy/narrow.h"

#define ZNN_ROW_INLINE static inline __attribute__((always_inline))
#define ZNN_ROW_ESCAPED 2 /* in place of a value: those are multiples of 4 */

#define ZNN_ROW_FLAG UINT64_C(0x0101010101010101) /* bit 0 of 8 flags */

/* Bit `bit`, 0 or 1, of 8 flags, side by side. */
ZNN_ROW_INLINE uint64_t znn_row_bits(const uint8_t *flags, unsigned bit)
{
    return (znn_load64(flags) & ZNN_ROW_FLAG << bit) * (UINT64_C(0x0102040810204080) >> bit) >> 56;
}

/* And of 64. */
ZNN_ROW_INLINE uint64_t znn_row_bits64(const uint8_t *flags, unsigned bit)
{
    uint64_t bits = 0;
#pragma GCC unroll 8
    for (unsigned i = 0; i < 64; i += 8)
        bits |= znn_row_bits(flags + i, bit) << i;
    return bits;
}

/* The lanes where bit 0 is set, in order: the last ones of `list`; returns how many. */
ZNN_ROW_INLINE unsigned znn_row_list(uint8_t list[ZNN_NARROW_LANES_MAX], const uint8_t *flags, unsigned lanes)
{
    uint8_t *const end = list + ZNN_NARROW_LANES_MAX, *at = end;
    uint64_t first = lanes * ZNN_ROW_FLAG;
    for (size_t l = lanes; l > 0; l -= 8) {
        first -= 8 * ZNN_ROW_FLAG;
        znn_store64(at - 8, znn_compress8[znn_row_bits(flags + l - 8, 0)] | first);
        at -= (znn_load64(flags + l - 8) & ZNN_ROW_FLAG) * ZNN_ROW_FLAG >> 56;
    }
    return (unsigned)(end - at);
}

/* Two numbers of 16 bits for every byte; those of four lanes are put side by side in registers, since a
 * store for each would take longer. */
typedef struct {
    uint64_t even[256], odd[256]; /* the first in bits 0 to 15, the second in 32 to 47; and all of it 16 higher */
} znn_row_pairs;

static inline void znn_row_pairs_set(znn_row_pairs *pairs, unsigned byte, unsigned first, unsigned second)
{
    pairs->even[byte] = first | (uint64_t)second << 32;
    pairs->odd[byte] = pairs->even[byte] << 16;
}

/* Lane k of four whose words of 16 bits make one of 64: the last is lowest on big-endian machines. */
#define ZNN_ROW_LANE(k) (ZNN_BIG_ENDIAN ? 3 - (k) : (k))

/* The two words of 64 for the bytes of four lanes, ZNN_ROW_LANE(0) to (3). */
ZNN_ROW_INLINE void znn_row_pairs_get(const znn_row_pairs *pairs, unsigned a, unsigned b, unsigned c, unsigned d,
                                      uint64_t *first, uint64_t *second)
{
    const uint64_t ab = pairs->even[a] | pairs->odd[b], cd = pairs->even[c] | pairs->odd[d];
    *first = (uint32_t)ab | cd << 32;
    *second = ab >> 32 | cd >> 32 << 32;
}

/* For all lanes, given a byte each. */
ZNN_ROW_INLINE void znn_row_pairs_look_up(const znn_row_pairs *pairs, const uint8_t *bytes, unsigned lanes,
                                          uint16_t *firsts, uint16_t *seconds)
{
#pragma GCC unroll 2
    for (size_t l = 0; l < lanes; l += 4) {
        const uint8_t *const b = bytes + l;
        uint64_t first, second;
        znn_row_pairs_get(pairs, b[ZNN_ROW_LANE(0)], b[ZNN_ROW_LANE(1)], b[ZNN_ROW_LANE(2)], b[ZNN_ROW_LANE(3)], &first,
                          &second);
        memcpy(firsts + l, &first, 8);
        memcpy(seconds + l, &second, 8);
    }
}

typedef struct {
    znn_row_pairs slots; /* frequency and, a byte higher, offset; value */
    _Alignas(64) uint16_t x[ZNN_NARROW_LANES_MAX];
    uint16_t steps[ZNN_NARROW_LANES_MAX];
    uint16_t values[ZNN_NARROW_LANES_MAX]; /* of the row decoded last */
    uint8_t flags[ZNN_NARROW_LANES_MAX];
    uint8_t list[ZNN_NARROW_LANES_MAX];
} znn_narrow_rows;

/* value: of every index, a multiple of 4. */
ZNN_ROW_INLINE void znn_narrow_rows_begin(znn_narrow_rows *r, const znn_narrow_decoder *d,
                                          const uint16_t value[ZNN_NARROW_INDICES])
{
    const znn_narrow_table *t = d->table;
    for (unsigned i = 0; i < 256; i++) {
        const unsigned code = t->code_of_slot[i], s = code % ZNN_NARROW_INDICES;
        const unsigned v = code & ZNN_NARROW_ESCAPE ? ZNN_ROW_ESCAPED : value[s];
        znn_row_pairs_set(&r->slots, i, t->freq[s] | (unsigned)t->offset_of_slot[i] << 8, v);
    }
    for (unsigned l = 0; l < d->lanes; l++)
        r->x[l] = (uint16_t)(d->low[l] | d->high[l] << 8);
}

ZNN_ROW_INLINE void znn_narrow_rows_end(const znn_narrow_rows *r, znn_narrow_decoder *d)
{
    for (unsigned l = 0; l < d->lanes; l++) {
        d->low[l] = (uint8_t)r->x[l];
        d->high[l] = (uint8_t)(r->x[l] >> 8);
    }
}

/* Decode a row, for which znn_narrow_decoder_ready has promised what is read. */
ZNN_ROW_INLINE void znn_narrow_rows_next(znn_narrow_rows *r, znn_narrow_decoder *d, const unsigned lanes,
                                         const uint16_t value[ZNN_NARROW_INDICES])
{
#pragma GCC unroll 2
    for (size_t l = 0; l < lanes; l += 4) {
        const uint16_t *const x = r->x + l;
        uint64_t steps, values;
        znn_row_pairs_get(&r->slots, x[ZNN_ROW_LANE(0)] & 255, x[ZNN_ROW_LANE(1)] & 255, x[ZNN_ROW_LANE(2)] & 255,
                          x[ZNN_ROW_LANE(3)] & 255, &steps, &values);
        memcpy(r->steps + l, &steps, 8);
        memcpy(r->values + l, &values, 8);
    }
    for (size_t l = 0; l < lanes; l += 8) {
        const znn_words8 x = znn_words8_load(r->x + l), step = znn_words8_load(r->steps + l);
        const znn_words8 y = (step & 255) * (x >> 8) + (step >> 8), low = (znn_words8)(y >> 8 == 0);
        znn_words8_store(r->x + l, y * ((low & 255) + 1)); /* a byte up where it is low */
        znn_words8_low(r->flags + l, (low & 1) | (znn_words8_load(r->values + l) & ZNN_ROW_ESCAPED));
    }
    const unsigned n = znn_row_list(r->list, r->flags, lanes);
    const uint8_t *const refilled = r->list + ZNN_NARROW_LANES_MAX - n;
    uint8_t *const x = (uint8_t *)r->x + ZNN_BIG_ENDIAN;
#pragma GCC unroll 4
    for (unsigned i = 0; i < n; i++)
        x[2 * (size_t)refilled[i]] = d->next[i];
    d->next += n;
    const uint8_t *escaped = d->escaped;
    /* They are few. A damaged stream has more than the list, and takes any bytes behind it. */
    for (size_t l = 0; l < lanes; l += 64)
        for (uint64_t left = znn_row_bits64(r->flags + l, 1); left; left &= left - 1)
            r->values[l + (size_t)__builtin_ctzll(left)] = value[*escaped++ % ZNN_NARROW_INDICES];
    d->escaped = escaped;
}

#endif
