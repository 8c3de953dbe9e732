/*
 * The narrow coder with NEON: 16 lanes a vector.
 *
 * Codes are numbered in the order of their slots: the code's rank, 0 to 63. A table of 64
 * bytes has the rank at each fourth slot, and which of the three after it begin a code;
 * what is set of these below a slot is counted. Spread slots are brought into that order first.
 *
 * Safety: a state is a slot of 8 bits and a high byte, and both are only used in
 * registers, where a look-up beyond a table gives 0, so no stream can make this code touch
 * memory outside. The only reads from memory are the refills, for which
 * znn_narrow_decoder_ready promises `lanes` bytes a row and a vector more beyond d->next,
 * and the escapes, of which there is one for every symbol, and 64 more.
 */
#include "base/shuffles.h"
#include "base/shuffles_neon.h"
#include "entropy/narrow.h"

#define VECTOR 16

typedef struct {
    bool spread;
    bool many; /* codes: more than 32, so that tables by rank are of 64 bytes, not of 32 */
} shape;

/* What the decoder looks up, as bytes: see decode(). */
typedef struct {
    shape shape;
    uint8_t quads[64];  /* by place / 4: the rank; not many: rank << 3 | begins */
    uint8_t begins[64]; /* bit i: place 4 n + 1 + i begins a code */
    uint8_t freq[64], start[64], index[64]; /* by rank */
    uint8_t escape;                         /* its rank */
} decoding;

static void decoding_make(decoding *r, const znn_narrow_table *t)
{
    uint8_t codes[ZNN_NARROW_INDICES] = {0}, rank_of_slot[256], rank_of_place[256];
    const unsigned n = znn_narrow_ranks(t, codes, rank_of_slot);
    memset(r, 0, sizeof *r);
    r->shape = (shape){.spread = t->spread, .many = n > 32};
    for (unsigned slot = 0; slot < 256; slot++)
        rank_of_place[t->spread ? slot * ZNN_NARROW_SPREAD % 256 : slot] = rank_of_slot[slot];
    for (unsigned i = 0; i < 64; i++) {
        const uint8_t *place = rank_of_place + 4 * i;
        for (unsigned k = 0; k < 3; k++)
            r->begins[i] |= (uint8_t)((place[k + 1] != place[k]) << k);
        r->quads[i] = (uint8_t)(r->shape.many ? place[0] : place[0] << 3 | r->begins[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        r->index[i] = codes[i] % ZNN_NARROW_INDICES;
        r->freq[i] = t->freq[r->index[i]];
        r->start[i] = t->start[r->index[i]];
    }
    r->escape = codes[0] & ZNN_NARROW_ESCAPE ? 0 : 0xff;
}

/* Of a table by rank only the first half is there, unless there are many codes. */
ZNN_INLINE uint8x16_t by_rank(const shape sh, uint8x16x2_t half, uint8x16x4_t all, uint8x16_t rank)
{
    return sh.many ? vqtbl4q_u8(all, rank) : vqtbl2q_u8(half, rank);
}

ZNN_INLINE void decode(znn_narrow_decoder *d, const decoding *t, const shape sh, uint8_t *out, size_t rows)
{
    static const uint8_t bits_below[VECTOR] = {0, 1, 3, 7}; /* by place % 4: its bits of begins */
    const uint8x16_t below_of = vld1q_u8(bits_below), escape_rank = vdupq_n_u8(t->escape);
    const uint8x16x4_t quads = vld1q_u8_x4(t->quads), begins = vld1q_u8_x4(t->begins);
    const uint8x16x2_t freq2 = vld1q_u8_x2(t->freq), start2 = vld1q_u8_x2(t->start), index2 = vld1q_u8_x2(t->index);
    const uint8x16x4_t freq4 = vld1q_u8_x4(t->freq), start4 = vld1q_u8_x4(t->start), index4 = vld1q_u8_x4(t->index);
    const uint8_t *const offsets = d->table->offset_of_slot; /* spread */
    const uint8x16x4_t offset0 = vld1q_u8_x4(offsets), offset1 = vld1q_u8_x4(offsets + 64);
    const uint8x16x4_t offset2 = vld1q_u8_x4(offsets + 128), offset3 = vld1q_u8_x4(offsets + 192);
    const unsigned lanes = d->lanes;
    const uint8_t *escaped = d->escaped;
    for (size_t sure; rows && (sure = znn_narrow_decoder_ready(d)) > 0;) {
        sure = ZNN_MIN(sure, rows);
        rows -= sure;
        const uint8_t *next = d->next;
        for (; sure; sure--, out += lanes)
            for (unsigned l = 0; l < lanes; l += VECTOR) {
                const uint8x16_t slot = vld1q_u8(d->low + l), high = vld1q_u8(d->high + l);
                const uint8x16_t place = sh.spread ? vmulq_u8(slot, vdupq_n_u8(ZNN_NARROW_SPREAD)) : slot;
                const uint8x16_t quad = vshrq_n_u8(place, 2), found = vqtbl4q_u8(quads, quad);
                const uint8x16_t below = vqtbl1q_u8(below_of, vandq_u8(place, vdupq_n_u8(3)));
                const uint8x16_t first = sh.many ? found : vshrq_n_u8(found, 3);
                const uint8x16_t begun = vandq_u8(below, sh.many ? vqtbl4q_u8(begins, quad) : found);
                const uint8x16_t rank = vaddq_u8(first, vcntq_u8(begun));
                /* x = freq * high + offset, and its bytes apart */
                const uint8x16_t freq = by_rank(sh, freq2, freq4, rank);
                const uint8x16_t offset = sh.spread ? znn_look_up256(offset0, offset1, offset2, offset3, slot)
                                                    : vsubq_u8(slot, by_rank(sh, start2, start4, rank));
                const uint8x16_t x0 = vreinterpretq_u8_u16(
                    vmlal_u8(vmovl_u8(vget_low_u8(offset)), vget_low_u8(freq), vget_low_u8(high)));
                const uint8x16_t x1 = vreinterpretq_u8_u16(vmlal_high_u8(vmovl_high_u8(offset), freq, high));
                const uint8x16_t new_low = vuzp1q_u8(x0, x1), new_high = vuzp2q_u8(x0, x1);
                const uint8x16_t empty = vceqzq_u8(new_high);
                vst1q_u8(d->low + l, vbslq_u8(empty, znn_expand(empty, &next), new_low));
                vst1q_u8(d->high + l, vbslq_u8(empty, new_low, new_high));
                uint8x16_t index = by_rank(sh, index2, index4, rank);
                const uint8x16_t escape = vceqq_u8(rank, escape_rank);
                if (__builtin_expect(znn_any(escape), 0))
                    index = vbslq_u8(escape, znn_expand(escape, &escaped), index);
                vst1q_u8(out + l, index);
            }
        d->next = next;
    }
    d->escaped = escaped;
    if (rows)
        memset(out, 0, rows * lanes);
}

/* One body a shape, so that the compiler knows it. */
#define SHAPES(do_shape) do_shape(false, false) do_shape(false, true) do_shape(true, false) do_shape(true, true)

void znn_narrow_decode_neon(znn_narrow_decoder *d, uint8_t *out, size_t rows)
{
    decoding t;
    decoding_make(&t, d->table);
#define DECODE(spread_, many_)                                                                                         \
    if (t.shape.spread == spread_ && t.shape.many == many_)                                                            \
        decode(d, &t, (shape){spread_, many_}, out, rows);
    SHAPES(DECODE)
#undef DECODE
}

bool znn_narrow_escapes_read_neon(uint8_t *indices, const znn_narrow_table *t, size_t count, const uint8_t *src)
{
    const unsigned bits = t->escape_bits;
    if (bits == 0) {
        memset(indices, t->tail[0], count);
        return count == 0 || t->tail_count;
    }
    const znn_unpacking unpacking = znn_unpacking_of(bits);
    const int16x8_t right = vdupq_n_s16((int16_t)(bits - 16));
    const uint8x16x4_t tail = vld1q_u8_x4(t->tail);
    uint8x16_t highest = vdupq_n_u8(0);
    unsigned extra = 0;
    for (size_t i = 0; i < count; i += VECTOR, src += 2 * bits) {
        const znn_words words = znn_unpack(&unpacking, src);
        uint8x16_t place = vuzp1q_u8(vreinterpretq_u8_u16(vshlq_u16(words.low, right)),
                                     vreinterpretq_u8_u16(vshlq_u16(words.high, right)));
        vst1q_u8(indices + i, vqtbl4q_u8(tail, place));
        const size_t left = count - i;
        if (left < VECTOR) {
            static const uint8_t numbers[VECTOR] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
            place = vandq_u8(place, vcltq_u8(vld1q_u8(numbers), vdupq_n_u8((uint8_t)left)));
            extra = left * bits % 8 ? src[left * bits / 8] >> left * bits % 8 : 0;
        }
        highest = vmaxq_u8(highest, place);
    }
    return !extra && (count == 0 || vmaxvq_u8(highest) < t->tail_count);
}

/* ---- the other way ---- */

/* Eight lanes: x / freq and what is left. r is 65536 / freq rounded down, so the product is it or one less. */
ZNN_INLINE uint16x8_t divide(uint16x8_t x, uint16x8_t freq, uint16x8_t r, uint16x8_t *rest)
{
    const uint32x4_t p0 = vmull_u16(vget_low_u16(x), vget_low_u16(r)), p1 = vmull_high_u16(x, r);
    const uint16x8_t q = vuzp2q_u16(vreinterpretq_u16_u32(p0), vreinterpretq_u16_u32(p1));
    const uint16x8_t m = vmlsq_u16(x, q, freq), more = vcgeq_u16(m, freq);
    *rest = vsubq_u16(m, vandq_u16(more, freq));
    return vsubq_u16(q, more);
}

ZNN_INLINE size_t encode(const znn_narrow_table *t, const bool spread, unsigned lanes, const uint8_t *codes,
                         size_t rows, const uint16_t *initial, uint8_t *dst_end)
{
    static const uint8_t bit_of_lane[VECTOR] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8_t low[ZNN_NARROW_LANES_MAX], high[ZNN_NARROW_LANES_MAX], reciprocals[2][ZNN_NARROW_INDICES];
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        const unsigned r = t->freq[i] ? ZNN_MIN(65536u / t->freq[i], 65535) : 0;
        reciprocals[0][i] = (uint8_t)r;
        reciprocals[1][i] = (uint8_t)(r >> 8);
    }
    for (unsigned l = 0; l < lanes; l++) {
        low[l] = (uint8_t)initial[l];
        high[l] = (uint8_t)(initial[l] >> 8);
    }
    const uint8x16_t lane_bits = vld1q_u8(bit_of_lane);
    const uint8x16x4_t freq_of = vld1q_u8_x4(t->freq), start_of = vld1q_u8_x4(t->start);
    const uint8x16x4_t rl_of = vld1q_u8_x4(reciprocals[0]), rh_of = vld1q_u8_x4(reciprocals[1]);
    const uint8x16x4_t slot0 = vld1q_u8_x4(t->slot_of), slot1 = vld1q_u8_x4(t->slot_of + 64); /* spread */
    const uint8x16x4_t slot2 = vld1q_u8_x4(t->slot_of + 128), slot3 = vld1q_u8_x4(t->slot_of + 192);
    uint8_t *p = dst_end;
    for (const uint8_t *s = codes + rows * lanes; s != codes;)
        for (unsigned l = lanes; l > 0;) {
            l -= VECTOR;
            s -= VECTOR;
            const uint8x16_t old_low = vld1q_u8(low + l), old_high = vld1q_u8(high + l);
            /* of an escape's code, the index */
            const uint8x16_t index = vandq_u8(vld1q_u8(s), vdupq_n_u8(ZNN_NARROW_INDICES - 1));
            const uint8x16_t freq = vqtbl4q_u8(freq_of, index), start = vqtbl4q_u8(start_of, index);
            const uint8x16_t rl = vqtbl4q_u8(rl_of, index), rh = vqtbl4q_u8(rh_of, index);
            /* x >= freq << 8: a byte leaves. Each half's to the top of 8, so that the lower half's overwrites
             * what is below. */
            const uint8x16_t leaves = vcgeq_u8(old_high, freq), bits = vandq_u8(leaves, lane_bits);
            const unsigned lower = vaddv_u8(vget_low_u8(bits)), upper = vaddv_u8(vget_high_u8(bits));
            vst1_u8(p - 8, vtbl1_u8(vget_high_u8(old_low), vcreate_u8(znn_compress8[upper])));
            p -= __builtin_popcount(upper);
            vst1_u8(p - 8, vtbl1_u8(vget_low_u8(old_low), vcreate_u8(znn_compress8[lower])));
            p -= __builtin_popcount(lower);
            const uint8x16_t x = vbslq_u8(leaves, old_high, old_low), y = vbicq_u8(old_high, leaves);
            uint16x8_t rest0, rest1;
            const uint16x8_t q0 = divide(vreinterpretq_u16_u8(vzip1q_u8(x, y)), vmovl_u8(vget_low_u8(freq)),
                                         vreinterpretq_u16_u8(vzip1q_u8(rl, rh)), &rest0);
            const uint16x8_t q1 = divide(vreinterpretq_u16_u8(vzip2q_u8(x, y)), vmovl_high_u8(freq),
                                         vreinterpretq_u16_u8(vzip2q_u8(rl, rh)), &rest1);
            const uint8x16_t rest = vuzp1q_u8(vreinterpretq_u8_u16(rest0), vreinterpretq_u8_u16(rest1));
            const uint8x16_t nth = vaddq_u8(start, rest); /* below 256 */
            vst1q_u8(low + l, spread ? znn_look_up256(slot0, slot1, slot2, slot3, nth) : nth);
            vst1q_u8(high + l, vuzp1q_u8(vreinterpretq_u8_u16(q0), vreinterpretq_u8_u16(q1)));
        }
    memcpy(p -= lanes, high, lanes);
    memcpy(p -= lanes, low, lanes);
    return (size_t)(dst_end - p);
}

size_t znn_narrow_encode_neon(const znn_narrow_table *t, unsigned lanes, const uint8_t *codes, size_t rows,
                              const uint16_t *initial, uint8_t *dst_end)
{
    return t->spread ? encode(t, true, lanes, codes, rows, initial, dst_end)
                     : encode(t, false, lanes, codes, rows, initial, dst_end);
}
