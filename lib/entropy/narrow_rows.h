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

/* Of four lanes in a word, the one whose bits are 16 k and up. */
#define ZNN_ROW_LANE(k) ((k) ^ (ZNN_BIG_ENDIAN ? 3u : 0u))

#define ZNN_ROW_FLAG UINT64_C(0x0101010101010101) /* bit 0 of 8 flags */

/* Bit `bit`, 0 or 1, of 8 flags, side by side. */
ZNN_ROW_INLINE uint64_t znn_row_bits(const uint8_t *flags, unsigned bit)
{
    return (znn_load64(flags) & ZNN_ROW_FLAG << bit) * (UINT64_C(0x0102040810204080) >> bit) >> 56;
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

typedef struct {
    uint64_t even[256], odd[256]; /* by slot, bits 0: frequency, 8: offset, 32: value; and all of it 16 higher */
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
        const uint64_t v = code & ZNN_NARROW_ESCAPE ? ZNN_ROW_ESCAPED : value[s];
        r->even[i] = t->freq[s] | (unsigned)t->offset_of_slot[i] << 8 | v << 32;
        r->odd[i] = r->even[i] << 16;
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
#define SLOT(k) r->x[l + ZNN_ROW_LANE(k)] & 255
#pragma GCC unroll 2
    for (unsigned l = 0; l < lanes; l += 4) {
        const uint64_t a = r->even[SLOT(0)] | r->odd[SLOT(1)], b = r->even[SLOT(2)] | r->odd[SLOT(3)];
        const uint64_t steps = (uint32_t)a | b << 32, values = a >> 32 | b >> 32 << 32;
        memcpy(r->steps + l, &steps, 8);
        memcpy(r->values + l, &values, 8);
    }
#undef SLOT
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
    for (size_t l = 0; l < lanes; l += 64) { /* they are few */
        uint64_t left = 0;
#pragma GCC unroll 8
        for (unsigned i = 0; i < 64; i += 8)
            left |= znn_row_bits(r->flags + l + i, 1) << i;
        for (; left; left &= left - 1)
            /* Beyond the list, which is seen too late for this, lies any byte. */
            r->values[l + (size_t)__builtin_ctzll(left)] = value[*escaped++ % ZNN_NARROW_INDICES];
    }
    d->escaped = escaped;
}

#endif
