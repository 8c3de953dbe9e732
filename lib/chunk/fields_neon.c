/*
 * fields.h with NEON: 16 of a group's 64 elements at a time.
 *
 * Every element is E bytes: zero bytes (dropped bits), byte planes as they are,
 * then the byte where the mantissa's top ends and the symbol begins, and, if the
 * symbol does not end there, one more. A symbol's bits in these two are looked up,
 * the packed top's are put in by masks, and interleaves make elements: of 16
 * positions E vectors, vector q of which goes to the group's byte 64 q on.
 */
#include "base/shuffles_neon.h"
#include "chunk/layouts.h"

#define QUARTER 16 /* of a group */

bool znn_fields_known_neon(const znn_fields *f)
{
    return znn_layout_known(f);
}

/* a and b by turns, elements of `bits`: the lower half, or the upper. */
ZNN_INLINE uint8x16_t zip_lower(const unsigned bits, uint8x16_t a, uint8x16_t b)
{
    const uint16x8_t a16 = vreinterpretq_u16_u8(a), b16 = vreinterpretq_u16_u8(b);
    const uint32x4_t a32 = vreinterpretq_u32_u8(a), b32 = vreinterpretq_u32_u8(b);
    return bits == 8    ? vzip1q_u8(a, b)
           : bits == 16 ? vreinterpretq_u8_u16(vzip1q_u16(a16, b16))
                        : vreinterpretq_u8_u32(vzip1q_u32(a32, b32));
}

ZNN_INLINE uint8x16_t zip_upper(const unsigned bits, uint8x16_t a, uint8x16_t b)
{
    const uint16x8_t a16 = vreinterpretq_u16_u8(a), b16 = vreinterpretq_u16_u8(b);
    const uint32x4_t a32 = vreinterpretq_u32_u8(a), b32 = vreinterpretq_u32_u8(b);
    return bits == 8    ? vzip2q_u8(a, b)
           : bits == 16 ? vreinterpretq_u8_u16(vzip2q_u16(a16, b16))
                        : vreinterpretq_u8_u32(vzip2q_u32(a32, b32));
}

/* The inverse: every other element of a, then of b, from the first or the second on. */
ZNN_INLINE uint8x16_t unzip_first(const unsigned bits, uint8x16_t a, uint8x16_t b)
{
    const uint16x8_t a16 = vreinterpretq_u16_u8(a), b16 = vreinterpretq_u16_u8(b);
    const uint32x4_t a32 = vreinterpretq_u32_u8(a), b32 = vreinterpretq_u32_u8(b);
    return bits == 8    ? vuzp1q_u8(a, b)
           : bits == 16 ? vreinterpretq_u8_u16(vuzp1q_u16(a16, b16))
                        : vreinterpretq_u8_u32(vuzp1q_u32(a32, b32));
}

ZNN_INLINE uint8x16_t unzip_second(const unsigned bits, uint8x16_t a, uint8x16_t b)
{
    const uint16x8_t a16 = vreinterpretq_u16_u8(a), b16 = vreinterpretq_u16_u8(b);
    const uint32x4_t a32 = vreinterpretq_u32_u8(a), b32 = vreinterpretq_u32_u8(b);
    return bits == 8    ? vuzp2q_u8(a, b)
           : bits == 16 ? vreinterpretq_u8_u16(vuzp2q_u16(a16, b16))
                        : vreinterpretq_u8_u32(vuzp2q_u32(a32, b32));
}

/* Elements to the left; to the right, where the count is negative. */
ZNN_INLINE uint8x16_t shift(const unsigned size, uint8x16_t v, int count)
{
    return size == 2 ? vreinterpretq_u8_u16(vshlq_u16(vreinterpretq_u16_u8(v), vdupq_n_s16((int16_t)count)))
                     : vreinterpretq_u8_u32(vshlq_u32(vreinterpretq_u32_u8(v), vdupq_n_s32(count)));
}

/* Pairs of runs of vectors to one run twice as long, which has an element of the first and one of the second by turns. */
ZNN_INLINE void zip_runs(const unsigned size, const unsigned run, uint8x16_t v[8])
{
    for (unsigned at = 0; at < size; at += 2 * run) {
        uint8x16_t made[8];
        for (unsigned i = 0; i < run; i++) {
            made[2 * i] = zip_lower(8 * run, v[at + i], v[at + run + i]);
            made[2 * i + 1] = zip_upper(8 * run, v[at + i], v[at + run + i]);
        }
        for (unsigned i = 0; i < 2 * run; i++)
            v[at + i] = made[i];
    }
}

ZNN_INLINE void unzip_runs(const unsigned size, const unsigned run, uint8x16_t v[8])
{
    for (unsigned at = 0; at < size; at += 2 * run) {
        uint8x16_t made[8];
        for (unsigned i = 0; i < run; i++) {
            made[i] = unzip_first(8 * run, v[at + 2 * i], v[at + 2 * i + 1]);
            made[run + i] = unzip_second(8 * run, v[at + 2 * i], v[at + 2 * i + 1]);
        }
        for (unsigned i = 0; i < 2 * run; i++)
            v[at + i] = made[i];
    }
}

/* The bytes of 16 positions to elements: bytes to words, to doublewords, to quadwords. (As a loop, compilers
 * would keep the vectors in memory.) */
ZNN_INLINE void to_elements(const unsigned size, uint8x16_t v[8])
{
    if (size >= 2)
        zip_runs(size, 1, v);
    if (size >= 4)
        zip_runs(size, 2, v);
    if (size >= 8)
        zip_runs(size, 4, v);
}

ZNN_INLINE void to_bytes(const unsigned size, uint8x16_t v[8])
{
    if (size >= 8)
        unzip_runs(size, 4, v);
    if (size >= 4)
        unzip_runs(size, 2, v);
    if (size >= 2)
        unzip_runs(size, 1, v);
}

typedef struct {
    uint8x16x4_t first, second; /* by index: the symbol's bits in its bytes */
    znn_unpacking top;
    int16x8_t right, mask; /* the top's values to their words' lowest bits; mantissa and sign there */
} joiner;

static joiner joiner_load(const znn_fields *f, const znn_symbols *symbols)
{
    uint8_t first[64], second[64];
    znn_symbol_bytes(f, symbols, first, second);
    const unsigned bits = f->top_bits, sign = f->bits - 1 - 8 * f->byte_planes;
    return (joiner){.first = vld1q_u8_x4(first),
                    .second = vld1q_u8_x4(second),
                    .top = znn_unpacking_of(bits),
                    .right = vdupq_n_s16((int16_t)(bits - 16)),
                    .mask = vdupq_n_s16((int16_t)((1u << (bits - 1)) - 1 + (1u << sign)))};
}

/* The mantissa in place, and the sign, which an arithmetic shift spreads to wherever it stands. */
ZNN_INLINE uint8x16_t top_of(const joiner *j, uint16x8_t words)
{
    return vreinterpretq_u8_s16(vandq_s16(vshlq_s16(vreinterpretq_s16_u16(words), j->right), j->mask));
}

ZNN_INLINE void join(const znn_fields *f, const znn_layout l, uint8_t *dst, size_t groups, const uint8_t *indices,
                     const znn_symbols *symbols, const uint8_t *const planes[ZNN_PLANES_MAX])
{
    const joiner j = joiner_load(f, symbols);
    const unsigned zeros = l.size - l.bytes - 1 - l.two;
    const int drop = (int)f->drop % 8;
    const uint8_t *top = planes[ZNN_TOP_PLANE];
    for (size_t at = 0; at < groups * ZNN_GROUP; at += QUARTER, top += 2 * f->top_bits) {
        const uint8x16_t index = vld1q_u8(indices + at), first = vqtbl4q_u8(j.first, index);
        const znn_words words = znn_unpack(&j.top, top);
        const uint8x16_t low = top_of(&j, words.low), high = top_of(&j, words.high);
        uint8x16_t v[8];
        for (unsigned p = 0; p < zeros; p++)
            v[p] = vdupq_n_u8(0);
        for (unsigned p = 0; p < l.bytes; p++)
            v[zeros + p] = vld1q_u8(planes[p] + at);
        v[zeros + l.bytes] = vorrq_u8(first, vuzp1q_u8(low, high));
        if (l.two)
            v[l.size - 1] = vorrq_u8(vqtbl4q_u8(j.second, index), vuzp2q_u8(low, high));
        to_elements(l.size, v);
        uint8_t *to = dst + at / ZNN_GROUP * ZNN_GROUP * l.size + at % ZNN_GROUP;
        for (unsigned q = 0; q < l.size; q++)
            vst1q_u8(to + 64 * q, l.shifted ? shift(l.size, v[q], drop) : v[q]);
    }
}

void znn_fields_join_neon(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *indices,
                          const znn_symbols *symbols, const uint8_t *const planes[ZNN_PLANES_MAX])
{
#define JOIN(size, bytes, two, shifted)                                                                                \
    if (znn_layout_is(f, (znn_layout){size, bytes, two, shifted})) {                                                   \
        join(f, (znn_layout){size, bytes, two, shifted}, dst, groups, indices, symbols, planes);                       \
        return;                                                                                                        \
    }
    ZNN_LAYOUTS(JOIN)
#undef JOIN
}

/* ---- the other way ---- */

typedef struct {
    uint8x16x4_t first, second, codes; /* by index: the symbol's bytes, and what the coder is given */
    uint8x16_t first_mask, second_mask, index_mask; /* the symbol's bits in its bytes, the index's in a byte */
    uint8x16_t common, top_mask, close;             /* close: 8 values each to top_bits bytes */
    unsigned top_bits, sign_bit;
} splitter;

static splitter splitter_load(const znn_fields *f, const znn_split_codes *c)
{
    uint8_t first[64], second[64], close[16];
    const unsigned bits = f->top_bits, mask = ((1u << f->symbol_bits) - 1) << (bits - 1);
    znn_symbol_bytes(f, c->symbols, first, second);
    for (unsigned i = 0; i < 16; i++)
        close[i] = (uint8_t)(i < 2 * bits ? i / bits * 8 + i % bits : 0xff);
    return (splitter){.first = vld1q_u8_x4(first),
                      .second = vld1q_u8_x4(second),
                      .codes = vld1q_u8_x4(c->codes),
                      .first_mask = vdupq_n_u8((uint8_t)mask),
                      .second_mask = vdupq_n_u8((uint8_t)(mask >> 8)),
                      .index_mask = vdupq_n_u8((uint8_t)((1u << ZNN_MIN(f->symbol_bits, 6)) - 1)),
                      .common = vdupq_n_u8(c->common),
                      .top_mask = vdupq_n_u8((uint8_t)((1u << (bits - 1)) - 1)),
                      .close = vld1q_u8(close),
                      .top_bits = bits,
                      .sign_bit = (f->bits - 1) % 8};
}

ZNN_INLINE uint8x16_t shift_bytes(uint8x16_t v, int left)
{
    return vshlq_u8(v, vdupq_n_s8((int8_t)left));
}

/* 16 values of top_bits bits each, with no gaps between them, and 0 after them. */
ZNN_INLINE uint8x16_t pack(const splitter *s, uint8x16_t values)
{
    const int bits = (int)s->top_bits;
    const uint16x8_t v8 = vreinterpretq_u16_u8(values);
    const uint16x8_t pairs = vorrq_u16(vandq_u16(v8, vdupq_n_u16(0xff)),
                                       vshlq_u16(vshrq_n_u16(v8, 8), vdupq_n_s16((int16_t)bits)));
    const uint32x4_t v16 = vreinterpretq_u32_u16(pairs);
    const uint32x4_t fours =
        vorrq_u32(vandq_u32(v16, vdupq_n_u32(0xffff)), vshlq_u32(vshrq_n_u32(v16, 16), vdupq_n_s32(2 * bits)));
    const uint64x2_t v32 = vreinterpretq_u64_u32(fours);
    const uint64x2_t eights = vorrq_u64(vandq_u64(v32, vdupq_n_u64(0xffffffff)),
                                        vshlq_u64(vshrq_n_u64(v32, 32), vdupq_n_s64(4 * bits)));
    return vqtbl1q_u8(vreinterpretq_u8_u64(eights), s->close);
}

/* Elements `position` on of which a lane is all ones in `missing`. */
static void add_missing(znn_split_codes *c, const splitter *s, unsigned symbol_bits, uint8x16_t missing, uint8x16_t x,
                        uint8x16_t y, size_t position)
{
    uint8_t where[QUARTER], xs[QUARTER], ys[QUARTER];
    vst1q_u8(where, missing);
    vst1q_u8(xs, x);
    vst1q_u8(ys, y);
    for (unsigned i = 0; i < QUARTER; i++)
        if (where[i]) {
            const unsigned symbol = (xs[i] | (unsigned)ys[i] << 8) >> (s->top_bits - 1);
            c->missing[c->missing_count++] = (uint64_t)(position + i) << 16 | (symbol & ((1u << symbol_bits) - 1));
        }
}

ZNN_INLINE void split(const znn_fields *f, const znn_layout l, const uint8_t *src, size_t groups, znn_split_codes *c,
                      uint8_t *const planes[ZNN_PLANES_MAX])
{
    const splitter s = splitter_load(f, c);
    const unsigned zeros = l.size - l.bytes - 1 - l.two;
    const int bits = (int)s.top_bits;
    uint8_t *top = planes[ZNN_TOP_PLANE], *out = c->out, *escaped = c->escaped;
    for (size_t at = 0; at < groups * ZNN_GROUP; at += QUARTER, top += 2 * bits) {
        const uint8_t *from = src + at / ZNN_GROUP * ZNN_GROUP * l.size + at % ZNN_GROUP;
        uint8x16_t v[8];
        for (unsigned q = 0; q < l.size; q++) {
            v[q] = vld1q_u8(from + 64 * q);
            if (l.shifted)
                v[q] = shift(l.size, v[q], -(int)(f->drop % 8));
        }
        to_bytes(l.size, v);
        for (unsigned p = 0; p < l.bytes; p++)
            vst1q_u8(planes[p] + at, v[zeros + p]);
        const uint8x16_t x = v[zeros + l.bytes], y = l.two ? v[l.size - 1] : vdupq_n_u8(0);
        uint8x16_t index = shift_bytes(x, 1 - bits);
        if (l.two)
            index = vorrq_u8(index, shift_bytes(y, 9 - bits));
        index = vandq_u8(index, s.index_mask);
        /* is it the symbol that the index stands for? */
        uint8x16_t known = vceqq_u8(vandq_u8(x, s.first_mask), vqtbl4q_u8(s.first, index));
        if (l.two)
            known = vandq_u8(known, vceqq_u8(vandq_u8(y, s.second_mask), vqtbl4q_u8(s.second, index)));
        const uint8x16_t code = vbslq_u8(known, vqtbl4q_u8(s.codes, index), s.common);
        vst1q_u8(out, code);
        out += QUARTER;
        if (__builtin_expect(znn_any(vmvnq_u8(known)), 0))
            add_missing(c, &s, f->symbol_bits, vmvnq_u8(known), x, y, at);
        const uint64_t escapes = znn_mask4(vcltzq_s8(vreinterpretq_s8_u8(code)));
        if (escapes) {
            uint8_t indices[QUARTER];
            vst1q_u8(indices, index);
            for (uint64_t m = escapes & 0x1111111111111111; m; m &= m - 1)
                *escaped++ = indices[__builtin_ctzll(m) / 4];
        }
        /* the top: mantissa bits, and the sign above them */
        const uint8x16_t sign = vandq_u8(shift_bytes(l.two ? y : x, 7 - (int)s.sign_bit), vdupq_n_u8(0x80));
        const uint8x16_t t = vorrq_u8(vandq_u8(x, s.top_mask), shift_bytes(sign, bits - 8));
        vst1q_u8(top, bits == 8 ? t : pack(&s, t));
    }
    c->out = out;
    c->escaped = escaped;
}

void znn_fields_split_neon(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                           uint8_t *const planes[ZNN_PLANES_MAX])
{
#define SPLIT(size, bytes, two, shifted)                                                                               \
    if (znn_layout_is(f, (znn_layout){size, bytes, two, shifted})) {                                                   \
        split(f, (znn_layout){size, bytes, two, shifted}, src, groups, codes, planes);                                 \
        return;                                                                                                        \
    }
    ZNN_LAYOUTS(SPLIT)
#undef SPLIT
}
