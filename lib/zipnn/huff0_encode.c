#include "zipnn/huff0.h"

#include "base/log2.h"

#define BITS ZNN_HUFF0_BITS_MAX
#define SAMPLE_RUN 64 /* bytes of a sample in a row */
#define SAMPLE_RUNS 64

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

/* The best lengths of at most BITS (package-merge): a level lists the leaves and
 * the pairs of the level before, by weight; of the last level's list the first
 * 2n - 2 are taken, of each other one those that the pairs taken consist of;
 * a leaf's length is how often it is taken. */
static void lengths_of(uint8_t *length, const leaf *leaves, unsigned n)
{
    uint32_t list[513], pairs[257];
    uint8_t is_leaf[BITS][512];
    unsigned pairs_count = 0, list_count = 0;
    for (unsigned level = 0; level < BITS; level++) {
        pairs[pairs_count] = UINT32_MAX;
        unsigned next_leaf = 0, next_pair = 0;
        list_count = n + pairs_count;
        for (unsigned i = 0; i < list_count; i++) {
            uint32_t leaf_weight = next_leaf < n ? leaves[next_leaf].count : UINT32_MAX, pair = pairs[next_pair];
            bool take_leaf = leaf_weight <= pair;
            list[i] = take_leaf ? leaf_weight : pair;
            is_leaf[level][i] = take_leaf;
            next_leaf += take_leaf;
            next_pair += !take_leaf;
        }
        pairs_count = list_count / 2;
        for (unsigned i = 0; i < pairs_count; i++)
            pairs[i] = list[2 * i] + list[2 * i + 1];
    }
    memset(length, 0, n);
    unsigned taken = 2 * n - 2;
    for (unsigned level = BITS; level-- > 0;) {
        unsigned taken_leaves = 0;
        for (unsigned i = 0; i < taken; i++)
            taken_leaves += is_leaf[level][i];
        for (unsigned i = 0; i < taken_leaves; i++)
            length[i]++;
        taken = 2 * (taken - taken_leaves);
    }
}

void znn_huff0_lengths(uint8_t lengths[256], const uint32_t count[256])
{
    leaf leaves[256];
    uint8_t length[256];
    unsigned n = sort_leaves(leaves, count);
    lengths_of(length, leaves, n);
    memset(lengths, 0, 256);
    for (unsigned i = 0; i < n; i++)
        lengths[leaves[i].symbol] = length[i];
}

/* ---- Blocks ---- */

bool znn_huff0_hopeless(const uint8_t *src, size_t size)
{
    if (size < 2 * SAMPLE_RUN * SAMPLE_RUNS)
        return false;
    uint32_t count[256] = {0};
    size_t step = size / SAMPLE_RUNS;
    for (size_t run = 0; run < SAMPLE_RUNS; run++)
        for (size_t i = 0; i < SAMPLE_RUN; i++)
            count[src[run * step + i]]++;
    /* sum of c * log2(total / c), in 1/256 bits. A sample of 4096 looks some 0.04 bits better than it is. */
    uint64_t bits = 0, total = (uint64_t)SAMPLE_RUN * SAMPLE_RUNS;
    for (unsigned s = 0; s < 256; s++)
        if (count[s])
            bits += count[s] * (uint64_t)(znn_log2_256((uint32_t)total) - znn_log2_256(count[s]));
    return bits > total * 256 * 8 * 97 / 100;
}

/* Two tables for each quarter: a value that comes again at once does not wait for itself. */
static void count_bytes(uint32_t count[8][256], const uint8_t *src, size_t size)
{
    memset(count, 0, 8 * sizeof *count);
    size_t quarter = (size + 3) / 4, last = size - 3 * quarter;
    const uint8_t *a = src, *b = a + quarter, *c = b + quarter, *d = c + quarter;
    size_t i = 0;
    for (; i + 8 <= last; i += 8) {
        uint64_t wa = znn_load64(a + i), wb = znn_load64(b + i), wc = znn_load64(c + i), wd = znn_load64(d + i);
        for (unsigned k = 0; k < 8; k += 2) {
            count[0][(uint8_t)wa]++;
            count[2][(uint8_t)wb]++;
            count[4][(uint8_t)wc]++;
            count[6][(uint8_t)wd]++;
            count[1][(uint8_t)(wa >> 8)]++;
            count[3][(uint8_t)(wb >> 8)]++;
            count[5][(uint8_t)(wc >> 8)]++;
            count[7][(uint8_t)(wd >> 8)]++;
            wa >>= 16;
            wb >>= 16;
            wc >>= 16;
            wd >>= 16;
        }
    }
    for (; i < quarter; i++) {
        count[0][a[i]]++;
        count[2][b[i]]++;
        count[4][c[i]]++;
        if (i < last)
            count[6][d[i]]++;
    }
}

size_t znn_huff0_prepare(znn_huff0_encoder *e, const uint8_t *src, size_t size)
{
    if (size < 2 || size > ZNN_HUFF0_MAX)
        return 0;
    if (src[0] == src[size - 1] && memcmp(src, src + 1, size - 1) == 0) {
        e->value = src[0];
        return 1;
    }
    if (size < ZNN_HUFF0_SIZE_MIN)
        return 0;
    count_bytes(e->count, src, size);
    uint32_t total[256];
    for (unsigned s = 0; s < 256; s++) {
        total[s] = 0;
        for (unsigned i = 0; i < 8; i++)
            total[s] += e->count[i][s];
    }
    uint8_t lengths[256], weights[256];
    znn_huff0_lengths(lengths, total);

    unsigned last = 255, longest = 0, begin[BITS + 2] = {0};
    while (!lengths[last])
        last--;
    uint64_t bits[4] = {0};
    for (unsigned s = 0; s <= last; s++) {
        longest = ZNN_MAX(longest, lengths[s]);
        begin[lengths[s]] += lengths[s] > 0;
        for (unsigned i = 0; i < 8; i++)
            bits[i / 2] += (uint64_t)e->count[i][s] * lengths[s];
    }
    for (unsigned s = 0; s < last; s++)
        weights[s] = (uint8_t)(lengths[s] ? longest + 1 - lengths[s] : 0);
    e->description_size = znn_huff0_write_weights(e->description, sizeof e->description, weights, last);
    if (!e->description_size)
        return 0;
    size_t whole = e->description_size + 6;
    for (unsigned i = 0; i < 4; i++) {
        e->stream_size[i] = (size_t)(bits[i] / 8 + 1); /* the end mark is a bit too */
        whole += e->stream_size[i];
    }
    /* Codes in order: the longest first, then by symbol. */
    unsigned next = 0;
    for (unsigned length = BITS; length > 0; length--) {
        unsigned n = begin[length];
        begin[length] = next >> (BITS - length);
        next += n << (BITS - length);
    }
    for (unsigned s = 0; s < 256; s++)
        e->code[s] = lengths[s] ? (uint64_t)begin[lengths[s]]++ << (64 - lengths[s]) | lengths[s] : 0;
    return whole;
}

void znn_huff0_encode(const znn_huff0_encoder *e, uint8_t *dst, const uint8_t *src, size_t size)
{
    memcpy(dst, e->description, e->description_size);
    uint8_t *sizes = dst + e->description_size, *out = sizes + 6;
    size_t quarter = (size + 3) / 4;
    znn_huff0_writer s[4];
    for (unsigned i = 0; i < 4; i++) {
        if (i < 3)
            znn_store16(sizes + 2 * i, (uint16_t)e->stream_size[i]);
        s[i] = (znn_huff0_writer){
            out, out + e->stream_size[i], src + i * quarter, src + ZNN_MIN(size, (i + 1) * quarter), 0, 0};
        out += e->stream_size[i];
    }
    znn_huff0_loops_here()->encode(s, e->code);
    znn_huff0_loops_here()->encode(s + 2, e->code);
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
        *t->out = (uint8_t)(bits | 1u << t->count);
    }
}
