#include "zipnn/huff0.h"

#include "base/log2.h"

#define BITS ZNN_HUFF0_BITS_MAX
#define RUN 64 /* bytes that are counted in a row */
#define SAMPLE 4096
#define AHEAD 8192
#define COUNT_ALL 32768 /* blocks below are counted as a whole */
#define MANY_SYMBOLS 32

/* ---- Lengths of codes ---- */

typedef struct {
    uint32_t count;
    uint8_t symbol;
} leaf;

/* By count, ascending: buckets of about equal counts, then insertion. */
static unsigned sort_leaves(leaf leaves[256], const uint32_t count[256])
{
    uint16_t begin[129] = {0};
    uint8_t bucket[256];
    unsigned total = 0;
    for (unsigned s = 0; s < 256; s++) {
        if (!count[s])
            continue;
        unsigned top = 31u - (unsigned)__builtin_clz(count[s]);
        bucket[s] = (uint8_t)(top << 2 | (top >= 2 ? count[s] >> (top - 2) & 3 : count[s] & 1));
        begin[bucket[s] + 1]++;
        total++;
    }
    for (unsigned b = 0; b < 128; b++)
        begin[b + 1] = (uint16_t)(begin[b + 1] + begin[b]);
    for (unsigned s = 0; s < 256; s++)
        if (count[s])
            leaves[begin[bucket[s]]++] = (leaf){count[s], (uint8_t)s};
    for (unsigned i = 1; i < total; i++) {
        leaf moved = leaves[i];
        unsigned at = i;
        for (; at > 0 && leaves[at - 1].count > moved.count; at--)
            leaves[at] = leaves[at - 1];
        leaves[at] = moved;
    }
    return total;
}

/* Huffman's lengths, without a limit, by descending length: `leaves` are by ascending count, so the next two to join
 * are always at the front of the leaves or of the joined, where none are left UINT64_MAX. */
static void optimal_lengths(uint8_t *length, const leaf *leaves, unsigned n)
{
    uint64_t leaf_weight[257] = {0}, weight[257] = {UINT64_MAX}; /* of the joined in the order they are made, so ascending */
    uint16_t parent[512] = {0}; /* of leaf i, and of joined node n + i: all get one, which not every compiler sees */
    for (unsigned i = 0; i < n; i++)
        leaf_weight[i] = leaves[i].count;
    leaf_weight[n] = UINT64_MAX;
    unsigned next_leaf = 0, next_joined = 0;
    for (unsigned made = 0; made < n - 1; made++) {
        uint64_t sum = 0;
        for (unsigned k = 0; k < 2; k++) {
            uint64_t of_leaf = leaf_weight[next_leaf], of_joined = weight[next_joined];
            unsigned take_leaf = of_leaf <= of_joined;
            sum += ZNN_MIN(of_leaf, of_joined);
            parent[take_leaf ? next_leaf : n + next_joined] = (uint16_t)made;
            next_leaf += take_leaf;
            next_joined += !take_leaf;
        }
        weight[made] = sum;
        weight[made + 1] = UINT64_MAX;
    }
    uint8_t depth[256] = {0};
    for (unsigned i = n - 1; i-- > 1;)
        depth[i - 1] = (uint8_t)(depth[parent[n + i - 1]] + 1);
    for (unsigned i = 0; i < n; i++)
        length[i] = (uint8_t)(depth[parent[i]] + 1);
}

/* Cut to `most` bits. What that takes of the space of codes is given back by longer codes where
 * that costs least, and what then is left over goes to the commonest that can use it. */
static void limit_lengths(uint8_t *length, const leaf *leaves, unsigned n, unsigned most)
{
    int space = -(1 << most); /* that is missing, if positive */
    unsigned end[BITS + 1] = {0}; /* of each length's leaves: the longest first, then those one shorter and so on */
    for (unsigned i = 0; i < n; i++) {
        length[i] = (uint8_t)ZNN_MIN(length[i], most);
        space += 1 << (most - length[i]);
        for (unsigned l = 1; l <= length[i]; l++)
            end[l] = i + 1;
    }
    while (space > 0) {
        unsigned best = 0;
        uint64_t least = UINT64_MAX;
        for (unsigned l = most - 1; l > 0; l--) { /* its rarest is the first after those longer by one */
            if (best && 1 << (most - 1 - l) > space)
                break;
            uint64_t cost = end[l] > end[l + 1] ? (uint64_t)leaves[end[l + 1]].count << l : UINT64_MAX;
            best = cost < least ? l : best;
            least = ZNN_MIN(least, cost);
        }
        length[end[best + 1]++]++;
        space -= 1 << (most - 1 - best);
    }
    for (unsigned l = 2; space < 0; l = l < most ? l + 1 : 2) /* the commonest of length l takes as much again */
        while (space + (1 << (most - l)) <= 0 && end[l] > (l < most ? end[l + 1] : 0)) {
            length[--end[l]]--;
            space += 1 << (most - l);
        }
}

/* In a small block of many symbols, describing long codes takes more than they save. */
static unsigned most_bits(unsigned symbols, size_t size)
{
    if (symbols < MANY_SYMBOLS)
        return BITS;
    return ZNN_MIN(BITS, ZNN_MAX(znn_log2_floor(size - 1) - 1, znn_log2_floor(symbols - 1) + 2));
}

void znn_huff0_lengths(uint8_t lengths[256], const uint32_t count[256], size_t size)
{
    leaf leaves[256];
    uint8_t length[256];
    unsigned n = sort_leaves(leaves, count);
    optimal_lengths(length, leaves, n);
    limit_lengths(length, leaves, n, most_bits(n, size));
    memset(lengths, 0, 256);
    for (unsigned i = 0; i < n; i++)
        lengths[leaves[i].symbol] = length[i];
}

/* ---- Counting ---- */

/* Of a large block, one run of bytes in `every` is counted, at a place that varies: columns must not hide. */
static void count_runs(uint32_t total[256], const uint8_t *src, size_t size, unsigned every)
{
    uint32_t count[4][256] = {{0}}; /* a value that comes again at once does not wait for itself */
    size_t step = (size_t)RUN * every, i = 0;
    for (; i + step <= size; i += step) {
        uint32_t place = (uint32_t)(i / step) * 0x9E3779B1u;
        const uint8_t *at = src + i + (size_t)RUN * ((uint64_t)place * every >> 32);
        if (size - i > AHEAD + step) /* runs here and there are not foreseen by the processor */
            for (size_t line = 0; line < step; line += 64)
                __builtin_prefetch(src + i + AHEAD + line);
        for (const uint8_t *end = at + RUN; at < end; at += 8) {
            uint64_t word = znn_load64(at);
            uint32_t low = (uint32_t)word, high = (uint32_t)(word >> 32);
            count[0][(uint8_t)low]++;
            count[1][(uint8_t)(low >> 8)]++;
            count[2][(uint8_t)(low >> 16)]++;
            count[3][low >> 24]++;
            count[0][(uint8_t)high]++;
            count[1][(uint8_t)(high >> 8)]++;
            count[2][(uint8_t)(high >> 16)]++;
            count[3][high >> 24]++;
        }
    }
    for (; every == 1 && i < size; i++)
        count[0][src[i]]++;
    for (unsigned s = 0; s < 256; s++)
        total[s] = count[0][s] + count[1][s] + count[2][s] + count[3][s];
}

/* log2(v) in 1/256 bits, by at most 2 of them off. */
static unsigned rough_log2(uint32_t v)
{
    unsigned whole = 31u - (unsigned)__builtin_clz(v), part = (unsigned)((uint64_t)v << 8 >> whole) & 255;
    return (whole << 8) + part + (part * (256 - part) * 88 >> 16);
}

/* True if a sample says that coding would save less than about 3 %. */
static bool hopeless(const uint8_t *src, size_t size)
{
    unsigned every = (unsigned)(size / SAMPLE);
    if (every < 2)
        return false;
    uint32_t count[256];
    uint64_t bits = 0, total = 0;
    count_runs(count, src, size, every);
    for (unsigned s = 0; s < 256; s++)
        total += count[s];
    /* sum of c * log2(total / c). A sample of 4096 looks some 0.04 bits better than it is. */
    unsigned whole = rough_log2((uint32_t)total);
    for (unsigned s = 0; s < 256; s++)
        if (count[s])
            bits += count[s] * (uint64_t)(whole - rough_log2(count[s]));
    return bits > total * 256 * 8 * 97 / 100;
}

/* ---- Blocks ---- */

/* The code of what was counted, for a block of `size`: its description, and what a symbol is coded as. */
static bool make_code(znn_huff0_encoder *e, uint8_t lengths[256], size_t size)
{
    znn_huff0_lengths(lengths, e->count, size);
    uint8_t weights[256];
    unsigned last = 255, longest = 0, begin[BITS + 2] = {0};
    while (!lengths[last])
        last--;
    for (unsigned s = 0; s <= last; s++) {
        longest = ZNN_MAX(longest, lengths[s]);
        begin[lengths[s]] += lengths[s] > 0;
    }
    for (unsigned s = 0; s < last; s++)
        weights[s] = (uint8_t)(lengths[s] ? longest + 1 - lengths[s] : 0);
    e->description_size = znn_huff0_write_weights(e->description, sizeof e->description, weights, last);
    /* Codes in order: the longest first, then by symbol. */
    unsigned next = 0;
    for (unsigned length = BITS; length > 0; length--) {
        unsigned n = begin[length];
        begin[length] = next >> (BITS - length);
        next += n << (BITS - length);
    }
    for (unsigned s = 0; s < 256; s++)
        e->code[s] = lengths[s] ? (uint64_t)begin[lengths[s]]++ << (64 - lengths[s]) | lengths[s] : 0;
    return e->description_size != 0;
}

/* The four streams, each into its room; their sizes. */
static void write_streams(znn_huff0_encoder *e, size_t stream_size[4], const uint8_t *src, size_t size)
{
    size_t quarter = (size + 3) / 4;
    znn_huff0_writer s[4];
    for (unsigned i = 0; i < 4; i++)
        s[i] = (znn_huff0_writer){e->room[i], e->room[i] + sizeof e->room[i], src + i * quarter,
                                  src + ZNN_MIN(size, (i + 1) * quarter), 0, 0};
    znn_huff0_loops_here()->encode(s, e->code);
    for (unsigned i = 0; i < 4; i++) {
        znn_huff0_writer *t = &s[i];
        uint64_t bits = t->count ? t->bits >> (64 - t->count) : 0; /* now from the lowest on */
        while (t->at > t->from) {
            uint64_t entry = e->code[*--t->at], length = entry & 63;
            bits |= entry >> (64 - length) << t->count;
            t->count += length;
            for (; t->count >= 8; t->count -= 8, bits >>= 8)
                *t->out++ = (uint8_t)bits;
        }
        *t->out++ = (uint8_t)(bits | 1u << t->count);
        stream_size[i] = (size_t)(t->out - e->room[i]);
    }
}

/* Code src by the counts of one run in `every`. The block's size, 0 if it would be more
 * than `most`, SIZE_MAX if the sample was no likeness. */
static size_t encode_by(znn_huff0_encoder *e, uint8_t *dst, size_t most, const uint8_t *src, size_t size,
                        unsigned every)
{
    count_runs(e->count, src, size, every);
    if (every > 1)
        znn_huff0_loops_here()->mark(e->count, src, size);
    uint8_t lengths[256];
    if (!make_code(e, lengths, size))
        return 0;
    uint64_t bits = 0, total = 0;
    for (unsigned s = 0; s < 256; s++) {
        bits += (uint64_t)e->count[s] * lengths[s];
        total += e->count[s];
    }
    size_t stream_size[4], whole = e->description_size + 6, guess = whole + (size_t)(bits * size / total / 8) + 4;
    if (guess > most + 4)
        return 0;
    write_streams(e, stream_size, src, size);
    for (unsigned i = 0; i < 4; i++)
        whole += stream_size[i];
    if (every > 1 && whole > guess + guess / 64)
        return SIZE_MAX;
    if (whole > most)
        return 0;
    memcpy(dst, e->description, e->description_size);
    dst += e->description_size;
    for (unsigned i = 0; i < 3; i++)
        znn_store16(dst + 2 * i, (uint16_t)stream_size[i]);
    dst += 6;
    for (unsigned i = 0; i < 4; i++) {
        memcpy(dst, e->room[i], stream_size[i]);
        dst += stream_size[i];
    }
    return whole;
}

size_t znn_huff0_encode(znn_huff0_encoder *e, uint8_t *dst, size_t most, const uint8_t *src, size_t size)
{
    if (size < 2 || size > ZNN_HUFF0_MAX || !most)
        return 0;
    if (src[0] == src[size - 1] && memcmp(src, src + 1, size - 1) == 0) {
        *dst = src[0];
        return 1;
    }
    if (size < ZNN_HUFF0_SIZE_MIN || hopeless(src, size))
        return 0;
    size_t whole = encode_by(e, dst, most, src, size, size < COUNT_ALL ? 1 : size < 2 * COUNT_ALL ? 4 : 8);
    return whole == SIZE_MAX ? encode_by(e, dst, most, src, size, 1) : whole;
}
