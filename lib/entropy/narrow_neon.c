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

typedef struct {
    znn_table64 quads;  /* by place / 4: the rank; not many: rank << 3 | begins */
    znn_table64 begins; /* bit i: place 4 n + 1 + i begins a code */
    znn_table64 freq, start, index; /* by rank */
    znn_table256 offset;            /* spread: by slot */
    uint8x16_t below;               /* by place % 4: its bits of begins */
    uint8x16_t escape;              /* its rank */
} decoding;

static shape decoding_load(decoding *r, const znn_narrow_table *t)
{
    uint8_t codes[ZNN_NARROW_INDICES] = {0}, rank_of_slot[256], rank_of_place[256], bytes[5][ZNN_NARROW_INDICES] = {{0}};
    const unsigned n = znn_narrow_ranks(t, codes, rank_of_slot);
    const shape sh = {.spread = t->spread, .many = n > 32};
    for (unsigned slot = 0; slot < 256; slot++)
        rank_of_place[sh.spread ? slot * ZNN_NARROW_SPREAD % 256 : slot] = rank_of_slot[slot];
    for (unsigned i = 0; i < 64; i++) {
        for (unsigned k = 0; k < 3; k++)
            bytes[1][i] |= (uint8_t)((rank_of_place[4 * i + k + 1] != rank_of_place[4 * i + k]) << k);
        bytes[0][i] = (uint8_t)(sh.many ? rank_of_place[4 * i] : rank_of_place[4 * i] << 3 | bytes[1][i]);
    }
    for (unsigned i = 0; i < n; i++) {
        const unsigned s = codes[i] % ZNN_NARROW_INDICES;
        bytes[2][i] = t->freq[s];
        bytes[3][i] = t->start[s];
        bytes[4][i] = (uint8_t)s;
    }
    static const uint8_t below[VECTOR] = {0, 1, 3, 7};
    r->quads = vld1q_u8_x4(bytes[0]);
    r->begins = vld1q_u8_x4(bytes[1]);
    r->freq = vld1q_u8_x4(bytes[2]);
    r->start = vld1q_u8_x4(bytes[3]);
    r->index = vld1q_u8_x4(bytes[4]);
    r->offset = znn_table256_load(t->offset_of_slot);
    r->below = vld1q_u8(below);
    r->escape = vdupq_n_u8(codes[0] & ZNN_NARROW_ESCAPE ? 0 : 0xff);
    return sh;
}

ZNN_INLINE uint8x16_t rank_of(const decoding *t, const shape sh, uint8x16_t slot)
{
    const uint8x16_t place = sh.spread ? vmulq_u8(slot, vdupq_n_u8(ZNN_NARROW_SPREAD)) : slot;
    const uint8x16_t quad = vshrq_n_u8(place, 2), below = vqtbl1q_u8(t->below, vandq_u8(place, vdupq_n_u8(3)));
    const uint8x16_t found = vqtbl4q_u8(t->quads, quad);
    if (sh.many)
        return vaddq_u8(found, vcntq_u8(vandq_u8(vqtbl4q_u8(t->begins, quad), below)));
    return vaddq_u8(vshrq_n_u8(found, 3), vcntq_u8(vandq_u8(found, below)));
}

/* One index of 16 lanes. */
ZNN_INLINE uint8x16_t decode_step(const decoding *t, const shape sh, uint8_t *low_, uint8_t *high_,
                                  const uint8_t **next, const uint8_t **escaped)
{
    const unsigned parts = sh.many ? 4 : 2;
    const uint8x16_t slot = vld1q_u8(low_), high = vld1q_u8(high_);
    const uint8x16_t rank = rank_of(t, sh, slot), freq = znn_look_up64(&t->freq, parts, rank);
    const uint8x16_t offset =
        sh.spread ? znn_look_up256(&t->offset, slot) : vsubq_u8(slot, znn_look_up64(&t->start, parts, rank));
    const uint16x8_t x0 = vmlal_u8(vmovl_u8(vget_low_u8(offset)), vget_low_u8(freq), vget_low_u8(high));
    const uint16x8_t x1 = vmlal_high_u8(vmovl_high_u8(offset), freq, high);
    const uint8x16_t new_low = vuzp1q_u8(vreinterpretq_u8_u16(x0), vreinterpretq_u8_u16(x1));
    const uint8x16_t new_high = vuzp2q_u8(vreinterpretq_u8_u16(x0), vreinterpretq_u8_u16(x1));
    const uint8x16_t empty = vceqzq_u8(new_high);
    vst1q_u8(low_, vbslq_u8(empty, znn_expand(empty, next), new_low));
    vst1q_u8(high_, vbslq_u8(empty, new_low, new_high));
    uint8x16_t index = znn_look_up64(&t->index, parts, rank);
    const uint8x16_t escape = vceqq_u8(rank, t->escape);
    if (__builtin_expect(znn_any(escape), 0))
        index = vbslq_u8(escape, znn_expand(escape, escaped), index);
    return index;
}

ZNN_INLINE void decode(znn_narrow_decoder *d, const decoding t, const shape sh, uint8_t *out, size_t rows)
{
    const unsigned lanes = d->lanes;
    const uint8_t *escaped = d->escaped;
    for (size_t sure; rows && (sure = znn_narrow_decoder_ready(d)) > 0;) {
        sure = ZNN_MIN(sure, rows);
        rows -= sure;
        const uint8_t *next = d->next;
        for (; sure; sure--, out += lanes)
            for (unsigned l = 0; l < lanes; l += VECTOR)
                vst1q_u8(out + l, decode_step(&t, sh, d->low + l, d->high + l, &next, &escaped));
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
    const shape sh = decoding_load(&t, d->table);
#define DECODE(spread_, many_)                                                                                         \
    if (sh.spread == spread_ && sh.many == many_)                                                                      \
        decode(d, t, (shape){spread_, many_}, out, rows);
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
    const znn_table64 tail = vld1q_u8_x4(t->tail);
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

typedef struct {
    znn_table64 freq, start, reciprocal[2]; /* by index; low and high byte */
    znn_table256 slot_of;                   /* spread */
} encoding;

/* Eight lanes: x / freq and what is left. r is 65536 / freq rounded down, so the product is it or one less. */
ZNN_INLINE uint16x8_t divide(uint16x8_t x, uint16x8_t freq, uint16x8_t r, uint16x8_t *rest)
{
    const uint32x4_t p0 = vmull_u16(vget_low_u16(x), vget_low_u16(r)), p1 = vmull_high_u16(x, r);
    const uint16x8_t q = vuzp2q_u16(vreinterpretq_u16_u32(p0), vreinterpretq_u16_u32(p1));
    const uint16x8_t m = vmlsq_u16(x, q, freq), more = vcgeq_u16(m, freq);
    *rest = vsubq_u16(m, vandq_u16(more, freq));
    return vsubq_u16(q, more);
}

/* One symbol of 16 lanes, backwards; refill bytes go before *end. */
ZNN_INLINE void encode_step(const encoding *e, const bool spread, uint8x16_t code, uint8_t *low_, uint8_t *high_,
                            uint8_t **end)
{
    static const uint8_t bit_of_lane[VECTOR] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t low = vld1q_u8(low_), high = vld1q_u8(high_);
    /* of an escape's code, the index */
    const uint8x16_t index = vandq_u8(code, vdupq_n_u8(ZNN_NARROW_INDICES - 1));
    const uint8x16_t freq = vqtbl4q_u8(e->freq, index), start = vqtbl4q_u8(e->start, index);
    const uint8x16_t rl = vqtbl4q_u8(e->reciprocal[0], index), rh = vqtbl4q_u8(e->reciprocal[1], index);
    /* x >= freq << 8: a byte leaves. Each half's to the top of 8, so that the lower half overwrites what is below. */
    const uint8x16_t leaves = vcgeq_u8(high, freq);
    const uint8x16_t bits = vandq_u8(leaves, vld1q_u8(bit_of_lane));
    const unsigned lower = vaddv_u8(vget_low_u8(bits)), upper = vaddv_u8(vget_high_u8(bits));
    vst1_u8(*end - 8, vtbl1_u8(vget_high_u8(low), vcreate_u8(znn_compress8[upper])));
    *end -= __builtin_popcount(upper);
    vst1_u8(*end - 8, vtbl1_u8(vget_low_u8(low), vcreate_u8(znn_compress8[lower])));
    *end -= __builtin_popcount(lower);
    const uint8x16_t l = vbslq_u8(leaves, high, low), h = vbicq_u8(high, leaves);
    uint16x8_t rest[2];
    const uint16x8_t q0 = divide(vreinterpretq_u16_u8(vzip1q_u8(l, h)), vmovl_u8(vget_low_u8(freq)),
                                 vreinterpretq_u16_u8(vzip1q_u8(rl, rh)), &rest[0]);
    const uint16x8_t q1 = divide(vreinterpretq_u16_u8(vzip2q_u8(l, h)), vmovl_high_u8(freq),
                                 vreinterpretq_u16_u8(vzip2q_u8(rl, rh)), &rest[1]);
    const uint8x16_t nth = /* below 256 */
        vaddq_u8(start, vuzp1q_u8(vreinterpretq_u8_u16(rest[0]), vreinterpretq_u8_u16(rest[1])));
    vst1q_u8(low_, spread ? znn_look_up256(&e->slot_of, nth) : nth);
    vst1q_u8(high_, vuzp1q_u8(vreinterpretq_u8_u16(q0), vreinterpretq_u8_u16(q1)));
}

ZNN_INLINE size_t encode(const encoding e, const bool spread, unsigned lanes, const uint8_t *codes, size_t rows,
                         const uint16_t *initial, uint8_t *dst_end)
{
    uint8_t low[ZNN_NARROW_LANES_MAX], high[ZNN_NARROW_LANES_MAX];
    for (unsigned l = 0; l < lanes; l++) {
        low[l] = (uint8_t)initial[l];
        high[l] = (uint8_t)(initial[l] >> 8);
    }
    uint8_t *p = dst_end;
    for (const uint8_t *s = codes + rows * lanes; s != codes;)
        for (unsigned l = lanes; l > 0;) {
            l -= VECTOR;
            s -= VECTOR;
            encode_step(&e, spread, vld1q_u8(s), low + l, high + l, &p);
        }
    memcpy(p -= lanes, high, lanes);
    memcpy(p -= lanes, low, lanes);
    return (size_t)(dst_end - p);
}

size_t znn_narrow_encode_neon(const znn_narrow_table *t, unsigned lanes, const uint8_t *codes, size_t rows,
                              const uint16_t *initial, uint8_t *dst_end)
{
    uint8_t bytes[2][ZNN_NARROW_INDICES] = {{0}};
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        const unsigned r = t->freq[i] ? ZNN_MIN(65536u / t->freq[i], 65535) : 0;
        bytes[0][i] = (uint8_t)r;
        bytes[1][i] = (uint8_t)(r >> 8);
    }
    const encoding e = {.freq = vld1q_u8_x4(t->freq),
                        .start = vld1q_u8_x4(t->start),
                        .reciprocal = {vld1q_u8_x4(bytes[0]), vld1q_u8_x4(bytes[1])},
                        .slot_of = znn_table256_load(t->slot_of)};
    return t->spread ? encode(e, true, lanes, codes, rows, initial, dst_end)
                     : encode(e, false, lanes, codes, rows, initial, dst_end);
}
