/* The narrow coder's table: which symbols it knows, how often each comes, and
 * how that is written. */
#include "base/log2.h"
#include "entropy/frequencies.h"
#include "entropy/narrow.h"

#define SLOTS 256
#define FAR_LEAST 4     /* elements for which a far symbol is worth its place in the table */
#define MISSING_BITS 32 /* what an element costs whose symbol the table does not know */

static unsigned bits_for(unsigned count)
{
    return count > 1 ? 32 - (unsigned)__builtin_clz(count - 1) : 0;
}

/* The i-th index in the table's order: that of the symbols. */
static inline unsigned index_at(const znn_narrow_table *t, unsigned i)
{
    return (t->base + i) % ZNN_NARROW_INDICES;
}

void znn_narrow_table_lay_out(znn_narrow_table *t)
{
    const unsigned escape_freq = t->escape_freq;
    t->tail_count = 0;
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        unsigned s = index_at(t, i);
        if (t->known >> s & 1 && !t->freq[s])
            t->tail[t->tail_count++] = (uint8_t)s;
    }
    t->escape_bits = bits_for(t->tail_count);
    uint8_t sorted[SLOTS]; /* codes, as often as their frequency says */
    unsigned start = 0;
    t->most = escape_freq;
    if (escape_freq && t->tail_count) {
        memset(sorted, ZNN_NARROW_ESCAPE | t->tail[0], escape_freq);
        t->start[t->tail[0]] = 0;
        start = escape_freq;
    }
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        unsigned s = index_at(t, i), f = t->freq[s];
        if (f) {
            t->start[s] = (uint8_t)start;
            memset(sorted + start, (int)s, f);
            start += f;
            t->most = ZNN_MAX(t->most, f);
        }
    }
    for (unsigned slot = 0; slot < SLOTS; slot++)
        t->code_of_slot[slot] = sorted[t->spread ? slot * ZNN_NARROW_SPREAD % SLOTS : slot];
    if (t->tail_count)
        t->freq[t->tail[0]] = (uint8_t)escape_freq;
    /* From both ends at once: each is a chain of additions in memory. */
    uint8_t next[ZNN_NARROW_INDICES], last[ZNN_NARROW_INDICES];
    for (unsigned s = 0; s < ZNN_NARROW_INDICES; s++) {
        next[s] = t->start[s];
        last[s] = (uint8_t)(t->start[s] + t->freq[s] - 1);
    }
    for (unsigned slot = 0; slot < SLOTS / 2; slot++) {
        const unsigned other = SLOTS - 1 - slot;
        const unsigned s = t->code_of_slot[slot] % ZNN_NARROW_INDICES, place = next[s]++;
        const unsigned r = t->code_of_slot[other] % ZNN_NARROW_INDICES, end = last[r]--;
        t->offset_of_slot[slot] = (uint8_t)(place - t->start[s]);
        t->offset_of_slot[other] = (uint8_t)(end - t->start[r]);
        t->slot_of[place] = (uint8_t)slot;
        t->slot_of[end] = (uint8_t)other;
    }
}

unsigned znn_narrow_ranks(const znn_narrow_table *t, uint8_t codes[ZNN_NARROW_INDICES], uint8_t rank_of_slot[SLOTS])
{
    uint8_t rank_of[ZNN_NARROW_INDICES] = {0};
    unsigned n = 0;
    for (unsigned i = 0, freq; i < SLOTS; i += freq) {
        const unsigned code = t->code_of_slot[t->slot_of[i]], s = code % ZNN_NARROW_INDICES;
        freq = t->freq[s];
        codes[n] = (uint8_t)code;
        rank_of[s] = (uint8_t)n++;
    }
    for (unsigned i = 0; i < SLOTS; i++)
        rank_of_slot[i] = rank_of[t->code_of_slot[i] % ZNN_NARROW_INDICES];
    return n;
}

/* Of all symbols with the same index, the commonest. */
static void find_owners(uint16_t owner[ZNN_NARROW_INDICES], const uint32_t *counts, unsigned symbol_bits)
{
    const unsigned symbols = 1u << symbol_bits;
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++)
        owner[i] = (uint16_t)ZNN_MIN(i, symbols - 1);
    for (unsigned s = ZNN_NARROW_INDICES; s < symbols; s++)
        if (counts[s] > counts[owner[s % ZNN_NARROW_INDICES]])
            owner[s % ZNN_NARROW_INDICES] = (uint16_t)s;
}

uint64_t znn_narrow_table_build(znn_narrow_table *t, const uint32_t *counts, unsigned symbol_bits, size_t elements,
                                bool spread)
{
    const unsigned here = ZNN_MIN(1u << symbol_bits, ZNN_NARROW_INDICES);
    uint16_t owner[ZNN_NARROW_INDICES];
    find_owners(owner, counts, symbol_bits);

    /* The window of 64 symbols ends where those worth a code end. */
    const uint32_t worth = (uint32_t)(elements / 2048);
    unsigned highest = 0;
    for (unsigned i = 0; i < here; i++)
        if (counts[owner[i]] > worth && owner[i] > highest)
            highest = owner[i];
    memset(t, 0, sizeof *t);
    t->spread = spread;
    t->base = highest >= ZNN_NARROW_INDICES ? highest - (ZNN_NARROW_INDICES - 1) : 0;

    /* Those known, commonest first. */
    uint8_t order[ZNN_NARROW_INDICES];
    int32_t keys[ZNN_NARROW_INDICES] = {0}; /* a chunk's counts have 22 bits */
    unsigned n = 0, far = 0;
    uint64_t missing = elements;
    for (unsigned i = 0; i < here; i++) {
        const uint32_t count = counts[owner[i]];
        const bool is_far = owner[i] < t->base || owner[i] >= t->base + ZNN_NARROW_INDICES;
        if (count == 0 || (is_far && count < FAR_LEAST))
            continue;
        far += is_far;
        keys[n++] = (int32_t)(count * ZNN_NARROW_INDICES + ZNN_NARROW_INDICES - 1 - i);
    }
    for (unsigned k = 0; k < n; k++) {
        int32_t before = 0;
        for (unsigned other = 0; other < ZNN_NARROW_INDICES; other++)
            before += keys[other] > keys[k];
        order[before] = (uint8_t)(ZNN_NARROW_INDICES - 1 - keys[k] % ZNN_NARROW_INDICES);
    }
    if (n == 0)
        return UINT64_MAX;

    /* How many are coded, and how many escaped: the best of a few. */
    uint64_t best_bits = UINT64_MAX;
    unsigned best_coded = 0, best_tail = 0;
    uint32_t best_freq[ZNN_NARROW_INDICES + 1] = {0};
    for (unsigned attempt = 0; attempt < 4; attempt++) {
        const unsigned step = 1 + attempt % 2, tail_max = attempt < 2 ? 16 : 32;
        const uint64_t least = step * (uint64_t)elements * 7 / (SLOTS * 8);
        unsigned coded = 0;
        while (coded < n && counts[owner[order[coded]]] >= least)
            coded++;
        if (n - coded < 2) /* an escape for one symbol is no gain */
            coded = n;
        coded = ZNN_MAX(coded, 1);
        const unsigned tail = ZNN_MIN(n - coded, tail_max);
        if (coded == best_coded && tail == best_tail)
            continue;
        uint32_t weights[ZNN_NARROW_INDICES + 1], freq[ZNN_NARROW_INDICES + 1];
        uint64_t escapes = 0;
        missing = elements;
        for (unsigned i = 0; i < coded + tail; i++) {
            weights[ZNN_MIN(i, coded)] = counts[owner[order[i]]];
            missing -= counts[owner[order[i]]];
            escapes += i < coded ? 0 : counts[owner[order[i]]];
        }
        weights[0] += (uint32_t)missing; /* they are coded as the commonest */
        unsigned codes = coded;
        if (tail || coded == 1) /* a table has two codes at least */
            weights[codes++] = (uint32_t)escapes;
        znn_frequencies_of(freq, weights, codes);
        uint64_t bits = 0;
        for (unsigned i = 0; i < codes; i++)
            bits += (uint64_t)weights[i] * (8 * 256 - znn_log2_of[freq[i]]);
        bits = (bits >> 8) + escapes * bits_for(tail) + missing * MISSING_BITS + 8 * (12 + coded + tail + 2 * far);
        if (missing <= elements / 16 && bits < best_bits) {
            best_bits = bits;
            best_coded = coded;
            best_tail = tail;
            memcpy(best_freq, freq, codes * sizeof *freq);
        }
    }
    if (best_bits == UINT64_MAX)
        return best_bits;
    t->escape_freq = best_tail || best_coded == 1 ? best_freq[best_coded] : 0;
    for (unsigned i = 0; i < best_coded + best_tail; i++) {
        const unsigned s = order[i];
        t->known |= UINT64_C(1) << s;
        t->symbol[s] = owner[s];
        t->freq[s] = (uint8_t)(i < best_coded ? best_freq[i] : 0);
    }
    if (t->escape_freq && !best_tail) { /* one symbol, and an escape that never comes */
        const unsigned s = order[0] ^ 1;
        t->known |= UINT64_C(1) << s;
        t->symbol[s] =
            (uint16_t)(t->base + (s + ZNN_NARROW_INDICES - t->base % ZNN_NARROW_INDICES) % ZNN_NARROW_INDICES);
    }
    return best_bits;
}

size_t znn_narrow_table_write(const znn_narrow_table *t, uint8_t *dst)
{
    uint8_t *p = dst + 12, far = 0;
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        const unsigned s = index_at(t, i);
        if (t->known >> s & 1)
            *p++ = t->tail_count && s == t->tail[0] ? 0 : t->freq[s];
    }
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        const unsigned s = index_at(t, i);
        if (t->known >> s & 1 && t->symbol[s] != t->base + i) {
            znn_store16(p, t->symbol[s]);
            p += 2;
            far++;
        }
    }
    znn_store16(dst, (uint16_t)(t->base | (unsigned)t->spread << 15));
    dst[2] = far;
    dst[3] = t->tail_count ? t->freq[t->tail[0]] : 0;
    znn_store64(dst + 4, t->known);
    return (size_t)(p - dst);
}

size_t znn_narrow_table_read(znn_narrow_table *t, unsigned symbol_bits, const uint8_t *src, size_t size)
{
    if (size < 12)
        return 0;
    memset(t, 0, sizeof *t);
    const unsigned symbols = 1u << symbol_bits, far = src[2], escape_freq = src[3];
    t->base = znn_load16(src) & 0x7fff;
    t->spread = znn_load16(src) >> 15;
    t->known = znn_load64(src + 4);
    const unsigned count = (unsigned)__builtin_popcountll(t->known);
    if (t->base >= symbols || size < 12 + count + 2 * (size_t)far)
        return 0;
    const uint8_t *p = src + 12;
    unsigned sum = escape_freq, tails = 0;
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        const unsigned s = index_at(t, i);
        if (!(t->known >> s & 1))
            continue;
        t->symbol[s] = (uint16_t)(t->base + i);
        t->freq[s] = *p++;
        sum += t->freq[s];
        tails += t->freq[s] == 0;
    }
    if (sum != SLOTS || (escape_freq != 0) != (tails != 0))
        return 0;
    for (unsigned i = 0; i < far; i++, p += 2) {
        const unsigned symbol = znn_load16(p), s = symbol % ZNN_NARROW_INDICES;
        if (!(t->known >> s & 1))
            return 0;
        t->symbol[s] = (uint16_t)symbol;
    }
    for (unsigned s = 0; s < ZNN_NARROW_INDICES; s++)
        if (t->symbol[s] >= symbols)
            return 0;
    t->escape_freq = escape_freq;
    znn_narrow_table_lay_out(t);
    return (size_t)(p - src);
}
