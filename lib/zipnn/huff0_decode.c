#include "zipnn/huff0.h"

#include "base/cpu.h"

#define BITS ZNN_HUFF0_BITS_MAX
#define SYMBOLS_MAX 6   /* of an entry of `many` */
#define LANES_MIN 16384 /* below, warming up is not worth it */

/* The codes in the order of their bits: the longest first, then by symbol. */
static void sort_codes(znn_huff0_tables *t, const uint8_t weights[256])
{
    unsigned counts[BITS + 2] = {0}, begin[BITS + 2] = {0}, total = 0;
    for (unsigned s = 0; s < 256; s++)
        counts[weights[s]]++;
    uint32_t sum = 0;
    for (unsigned w = 1; w <= BITS + 1; w++) {
        begin[w] = total;
        total += counts[w];
        sum += counts[w] << (w - 1);
    }
    unsigned longest = 31u - (unsigned)__builtin_clz(sum);
    for (unsigned s = 0; s < 256; s++) {
        t->lengths[s] = (uint8_t)(weights[s] ? longest + 1 - weights[s] : 0);
        if (weights[s])
            t->codes[begin[weights[s]]++] = (znn_huff0_code){(uint8_t)s, t->lengths[s]};
    }
    t->count = total;
}

static void build_one(znn_huff0_tables *d)
{
    const znn_huff0_code *codes = d->codes;
    unsigned at = 0;
    for (unsigned c = 0; c < d->count; c++) {
        unsigned n = 1u << (BITS - codes[c].length);
        uint64_t four = (codes[c].length | (uint64_t)codes[c].symbol << 8) * 0x0001000100010001;
        for (unsigned i = 0; i < n; i += 4) /* what is too many, the next code writes over */
            memcpy(d->one + at + i, &four, sizeof four);
        at += n;
    }
}

/* The table for k bits begins with what no code fits in; each code then stands
 * before every entry of the table for the bits that it leaves. */
static void build_many(znn_huff0_tables *d)
{
    const znn_huff0_code *codes = d->codes;
    const unsigned count = d->count;
    d->many[1] = 0;
    for (unsigned k = 1; k <= BITS; k++) {
        uint64_t *table = d->many + (1u << k);
        unsigned first = count, filled = 1u << k;
        while (first > 0 && codes[first - 1].length <= k)
            filled -= 1u << (k - codes[--first].length);
        memset(table, 0, filled * sizeof *table);
        for (unsigned c = first; c < count; c++) {
            unsigned n = 1u << (k - codes[c].length);
            const uint64_t *rest = d->many + n;
            uint64_t head = (uint64_t)codes[c].symbol << 16 | 1u << 8 | codes[c].length;
            for (unsigned i = 0; i < n; i++)
                table[filled + i] = ((rest[i] >> 16) << 24) + (rest[i] & 0xFFFF) + head;
            filled += n;
        }
    }
}

/* The same where a code of one bit would let more symbols into an entry than it has room for. */
static void build_many_capped(znn_huff0_tables *d)
{
    for (unsigned i = 0; i < 1u << BITS; i++) {
        unsigned left = i, bits = 0;
        uint64_t symbols = 0, count = 0;
        while (count < SYMBOLS_MAX && bits + (d->one[left] & 15) <= BITS) {
            symbols |= (uint64_t)(d->one[left] >> 8) << (8 * count++);
            bits += d->one[left] & 15;
            left = i << bits & ((1u << BITS) - 1);
        }
        d->many[(1u << BITS) + i] = symbols << 16 | count << 8 | bits;
    }
}

/* Begin a stream of `size` bytes; false if it has no end mark, or nothing before it. */
static bool open_stream(znn_huff0_readers *s, unsigned i, const uint8_t *src, size_t size)
{
    if (!size || !src[size - 1])
        return false;
    if (size == 1 && src[0] == 1)
        return false;
    s->begin[i] = src;
    unsigned taken = 1 + ((unsigned)__builtin_clz(src[size - 1]) - 24);
    if (size >= 8) {
        s->at[i] = src + size - 8;
        s->bits[i] = (znn_load64(s->at[i]) | 1) << taken;
    } else { /* no room for the fast loop: close_stream() sees at == begin */
        s->at[i] = src;
        s->bits[i] = (uint64_t)1 << (8 * (8 - size) + taken);
    }
    return true;
}

/* Decode what the fast loop left, and check that the stream ends where its symbols do. */
static bool close_stream(const znn_huff0_readers *s, unsigned i, const uint8_t *src_end, const uint16_t *one)
{
    const uint8_t *begin = s->begin[i];
    size_t size = (size_t)(src_end - begin);
    /* Bits that are left, counted from the begin. */
    ptrdiff_t left = (s->at[i] - begin) * 8 + 64 - (ptrdiff_t)__builtin_ctzll(s->bits[i]);
    for (uint8_t *out = s->out[i]; out < s->end[i]; out++) {
        ptrdiff_t first = left - BITS; /* of the bits to look at */
        uint32_t window = 0;
        if (first >= 0 && (size_t)first / 8 + 4 <= size) {
            window = znn_load32(begin + first / 8) >> (first % 8);
        } else {
            for (unsigned b = 0; b < BITS; b++) {
                ptrdiff_t at = first + (ptrdiff_t)b;
                window |= at >= 0 ? (uint32_t)(begin[at / 8] >> (at % 8) & 1) << b : 0;
            }
        }
        unsigned entry = one[window & ((1u << BITS) - 1)];
        *out = (uint8_t)(entry >> 8);
        left -= entry & 15;
        if (left < 0)
            return false;
    }
    return left == 0;
}

const znn_huff0_loops *znn_huff0_loops_here(void)
{
#if ZNN_X86
    switch (znn_cpu_isa()) {
    case ZNN_ISA_AVX512: return &znn_huff0_avx512;
    case ZNN_ISA_AVX2: return &znn_huff0_avx2;
    default: break;
    }
#endif
    return &znn_huff0_scalar;
}

typedef enum { BAD, DONE, LANES, ONE, MANY } progress;

/* Build a block's first table, and open its streams: DONE, BAD, or LANES if lanes might read it. */
static progress open_block(znn_huff0_tables *tables, znn_huff0_readers *s, const znn_huff0_block *b)
{
    if (!b->src_size || !b->dst_size || b->dst_size > ZNN_HUFF0_MAX)
        return BAD;
    if (b->src_size == 1) {
        memset(b->dst, b->src[0], b->dst_size);
        return DONE;
    }
    uint8_t weights[256];
    size_t head = znn_huff0_read_weights(weights, b->src, b->src_size);
    size_t quarter = (b->dst_size + 3) / 4;
    if (!head || b->src_size - head < 6 || 3 * quarter > b->dst_size)
        return BAD;
    sort_codes(tables, weights);
    build_one(tables);
    const uint8_t *sizes = b->src + head, *at = sizes + 6, *end = b->src + b->src_size;
    bool long_enough = b->dst_size >= LANES_MIN && b->src_size <= ZNN_HUFF0_MAX;
    for (unsigned i = 0; i < 4; i++) {
        size_t size = i < 3 ? znn_load16(sizes + 2 * i) : (size_t)(end - at);
        if (size > (size_t)(end - at) || !open_stream(s, i, at, size))
            return BAD;
        at += size;
        s->out[i] = b->dst + i * quarter;
        s->end[i] = i < 3 ? b->dst + (i + 1) * quarter : b->dst + b->dst_size;
        long_enough &= size >= 64;
    }
    return long_enough ? LANES : ONE;
}

/* Read what lanes can. */
static void run_lanes(znn_huff0_decoder *decoder, znn_huff0_readers s[2], const znn_huff0_block *blocks,
                      const progress state[2])
{
    znn_huff0_lanes_block lanes[2];
    unsigned count = 0;
    for (unsigned k = 0; k < 2; k++)
        if (state[k] == LANES)
            lanes[count++] =
                (znn_huff0_lanes_block){&s[k], blocks[k].src, blocks[k].src_size, decoder->tables[k].one,
                                        decoder->tables[k].lengths, blocks[k].large};
    const znn_huff0_loops *loops = znn_huff0_loops_here();
    if (count && loops->lanes)
        loops->lanes(decoder->memory, lanes, count);
}

/* What is left of a block: entries of several symbols pay where codes are short, and there is enough to decode. */
static progress choose_tables(znn_huff0_tables *tables, const znn_huff0_readers *s, const znn_huff0_block *b)
{
    size_t left = 0;
    for (unsigned i = 0; i < 4; i++)
        left += (size_t)(s->end[i] - s->out[i]);
    if (left < 4096 || b->src_size * 8 >= b->dst_size * 9 / 2)
        return ONE;
    if (tables->codes[tables->count - 1].length > 1)
        build_many(tables);
    else
        build_many_capped(tables);
    return MANY;
}

/* What the loops left of the four streams. */
static bool close_block(const znn_huff0_tables *tables, const znn_huff0_readers *s, const znn_huff0_block *b)
{
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *end = i < 3 ? s->begin[i + 1] : b->src + b->src_size;
        if (!close_stream(s, i, end, tables->one))
            return false;
    }
    return true;
}

static void run_one_block(const znn_huff0_tables *tables, znn_huff0_readers *s, progress kind)
{
    const znn_huff0_loops *loops = znn_huff0_loops_here();
    if (kind == MANY)
        loops->many(s, tables->many + (1 << BITS));
    else
        loops->one(s, tables->one);
}

/* The four streams from number `from` of a, to number `to` of b. */
static void move_streams(znn_huff0_readers *b, unsigned to, const znn_huff0_readers *a, unsigned from)
{
    for (unsigned i = 0; i < 4; i++) {
        b->at[to + i] = a->at[from + i];
        b->begin[to + i] = a->begin[from + i];
        b->bits[to + i] = a->bits[from + i];
        b->out[to + i] = a->out[from + i];
        b->end[to + i] = a->end[from + i];
    }
}

bool znn_huff0_decode(znn_huff0_decoder *decoder, const znn_huff0_block *blocks, unsigned count)
{
    znn_huff0_tables *t = decoder->tables;
    znn_huff0_readers s[2];
    progress state[2] = {DONE, DONE};
    for (unsigned k = 0; k < count; k++)
        if ((state[k] = open_block(&t[k], &s[k], &blocks[k])) == BAD)
            return false;
    run_lanes(decoder, s, blocks, state);
    for (unsigned k = 0; k < count; k++)
        if (state[k] != DONE)
            state[k] = choose_tables(&t[k], &s[k], &blocks[k]);
    if (state[0] == ONE && state[1] == ONE) { /* what waits in one is filled with the other; MANY would wait for the
                                                 cache */
        move_streams(&s[0], 4, &s[1], 0);
        znn_huff0_loops_here()->one_twice(&s[0], t[0].one, t[1].one);
        move_streams(&s[1], 0, &s[0], 4);
    }
    for (unsigned k = 0; k < count; k++) {
        if (state[k] == DONE)
            continue;
        run_one_block(&t[k], &s[k], state[k]);
        if (!close_block(&t[k], &s[k], &blocks[k]))
            return false;
    }
    return true;
}
