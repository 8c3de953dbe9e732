#include "zipnn/huff0.h"

#include "base/cpu.h"

#define BITS ZNN_HUFF0_BITS_MAX
#define SYMBOLS_MAX 6 /* of an entry of `many` */

typedef struct {
    uint8_t symbol, length;
} code;

/* The codes in the order of their bits: the longest first, then by symbol. */
static unsigned sort_codes(code codes[256], const uint8_t weights[256])
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
    for (unsigned s = 0; s < 256; s++)
        if (weights[s])
            codes[begin[weights[s]]++] = (code){(uint8_t)s, (uint8_t)(longest + 1 - weights[s])};
    return total;
}

static void build_one(znn_huff0_decoder *d, const code *codes, unsigned count)
{
    unsigned at = 0;
    for (unsigned c = 0; c < count; c++) {
        unsigned n = 1u << (BITS - codes[c].length);
        uint16_t entry = (uint16_t)(codes[c].length | codes[c].symbol << 8);
        for (unsigned i = 0; i < n; i++)
            d->one[at + i] = entry;
        at += n;
    }
}

/* The table for k bits begins with what no code fits in; each code then stands
 * before every entry of the table for the bits that it leaves. */
static void build_many(znn_huff0_decoder *d, const code *codes, unsigned count)
{
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
static void build_many_capped(znn_huff0_decoder *d)
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
static bool open_stream(znn_huff0_streams *s, unsigned i, const uint8_t *src, size_t size)
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
static bool close_stream(const znn_huff0_streams *s, unsigned i, const uint8_t *src_end, const uint16_t *one)
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

bool znn_huff0_decode(znn_huff0_decoder *decoder, uint8_t *dst, size_t dst_size, const uint8_t *src, size_t src_size)
{
    if (!src_size || !dst_size || dst_size > ZNN_HUFF0_MAX)
        return false;
    if (src_size == 1) {
        memset(dst, src[0], dst_size);
        return true;
    }
    uint8_t weights[256];
    size_t head = znn_huff0_read_weights(weights, src, src_size);
    size_t quarter = (dst_size + 3) / 4;
    if (!head || src_size - head < 6 || 3 * quarter > dst_size)
        return false;
    code codes[256];
    unsigned count = sort_codes(codes, weights);
    build_one(decoder, codes, count);

    const uint8_t *sizes = src + head, *at = sizes + 6, *end = src + src_size, *ends[4];
    znn_huff0_streams s;
    for (unsigned i = 0; i < 4; i++) {
        size_t size = i < 3 ? znn_load16(sizes + 2 * i) : (size_t)(end - at);
        if (size > (size_t)(end - at) || !open_stream(&s, i, at, size))
            return false;
        ends[i] = at += size;
        s.out[i] = dst + i * quarter;
        s.end[i] = i < 3 ? s.out[i] + quarter : dst + dst_size;
    }

    /* Entries of several symbols pay where a code is short, and there is enough to decode. */
    bool many = dst_size >= 4096 && src_size * 8 < dst_size * 9 / 2;
    if (many && codes[count - 1].length > 1)
        build_many(decoder, codes, count);
    else if (many)
        build_many_capped(decoder);
    znn_huff0_loop loop = many ? znn_huff0_loop_many : znn_huff0_loop_one;
#if ZNN_X86
    if (znn_cpu_isa() >= ZNN_ISA_AVX2)
        loop = many ? znn_huff0_loop_many_avx2 : znn_huff0_loop_one_avx2;
#endif
    loop(&s, decoder);
    for (unsigned i = 0; i < 4; i++)
        if (!close_stream(&s, i, ends[i], decoder->one))
            return false;
    return true;
}
