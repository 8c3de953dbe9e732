/*
 * Method `float`: the exponent, alone or with the top mantissa bits, is a symbol
 * and entropy-coded; everything below it is cut into planes (fields.h), most of
 * them noise and stored as they are.
 *
 * Payload:
 *      0  u8   coder: 0 narrow, 1 wide, 2 context
 *      1  u8   narrow: log2 of the lanes, 6, 7 or 8; context: the escapes' method, as a plane's; 0 for wide
 *      2  u8   symbol bits
 *      3  u8   dropped low bits
 *      4  u16  wide: base, what is added to a symbol byte; context: what is added to an index; narrow: 0
 *      6  u16  planes' methods, 2 bits each, byte plane 0 in the lowest, the top in the highest
 *      8  u32  bytes of patches
 *     12  u32  narrow, context: escapes; wide: 0
 *     16  narrow coder's table, byte planes, top, patches, escapes (their places in
 *         the table's tail, packed), symbol stream, and the bytes after the last
 *         whole element. The context coder's table stands before its escapes instead, behind
 *         the exponent of index 0 (u16), and its streams behind the size of the first (u32).
 *
 * Patches mend the elements whose symbol the coder does not know; they were
 * coded as the commonest one. See fused.h.
 *
 * The last raw plane lacks its last 15 * lanes / 8 bytes (or all of it, if it is
 * shorter) where the coder is narrow: they are the low 15 bits of the lanes'
 * last states, 15 bits a lane, least significant bit first; bits left over are 0.
 * Where it is the context coder, 1024 bytes: 16 bits of each lane of both streams.
 */
#include "chunk/methods.h"
#include "chunk/paths.h"
#include "entropy/context.h"
#include "entropy/wide.h"

#define HEADER 16
#define CODER_NARROW 0
#define CODER_WIDE 1
#define CODER_CONTEXT 2
#define PATCH_DISTANCE_MAX 65535
#define NO_SYMBOL 65535 /* a patch that only advances */
#define JOINED_MAX 3    /* mantissa bits in a symbol */
#define CONTEXT_JOINED 2
#define CONTEXT_HELD (2 * 2 * ZNN_CONTEXT_LANES) /* bytes of the last raw plane that its states hold */
#define COUNTS_MAX (1u << 14)
#define BLOCK_GROUPS 64 /* the decoder's step: in the first-level cache */
#define STATE_BITS 15
#define UNSEEN 3
#define TAIL_GROUPS 256 /* more than a block and the groups that states hold */
#define TAIL_SLACK 64   /* vectors read as far beyond */

typedef struct {
    unsigned coder;
    unsigned joined; /* mantissa bits in the symbol */
    unsigned base;   /* wide: a symbol is base + its byte, modulo 2^symbol_bits */
    unsigned common; /* wide: the commonest symbol byte; context: the commonest index */
    unsigned first;  /* context: the exponent of index 0; that of another index is base + it */
    znn_narrow_table table;
} choice;

/* ---- choosing ---------------------------------------------------------- */

/* How many low bits are zero in every element. Mostly none, which the first block shows. */
static unsigned zero_bits(const uint8_t *src, size_t elements, unsigned size)
{
    const size_t n = elements * size;
    uint64_t all = 0;
    for (size_t i = 0; i < n && !(all & 1);) {
        uint64_t any[8] = {0}; /* several, so that a compiler may use vectors */
        for (const size_t end = ZNN_MIN(n - n % 64, i + 4096); i < end; i += 64)
            for (unsigned k = 0; k < 8; k++)
                any[k] |= znn_load64(src + i + 8 * k);
        if (n - i < 64) {
            uint8_t rest[64] = {0};
            memcpy(rest, src + i, n - i);
            for (unsigned k = 0; k < 8; k++)
                any[k] |= znn_load64(rest + 8 * k);
            i = n;
        }
        for (unsigned k = 0; k < 8; k++)
            all |= any[k];
        for (unsigned width = 32; width >= 8 * size; width /= 2)
            all |= all >> width;
    }
    all &= ~UINT64_C(0) >> (64 - 8 * size);
    return all ? (unsigned)__builtin_ctzll(all) : 0;
}

/* Enough for the table: it then misses the best by less than 0.02 points, at the fast levels by 0.1. Returns how many
 * were counted. */
static size_t count_elements(uint32_t *counts, unsigned count_bits, const uint8_t *src, size_t elements, unsigned size,
                             int level, znn_hasher *hasher)
{
    const unsigned most = level >= 7 ? 1 : level >= 3 ? 4 : 16;
    const size_t least = level >= 3 ? 32768 : 8192;
    unsigned every = 1;
    while (every < most && elements / (2 * every) >= least)
        every *= 2;
    size_t counted = znn_paths_chosen()->count(counts, count_bits, src, elements, size, every, hasher);
    /* What a sample has not seen among its neighbours may be there. */
    for (uint32_t s = 0, seen = 0; s < 1u << count_bits && every > 1; s++) {
        if (counts[s])
            seen = s + UNSEEN;
        else if (s < seen)
            counts[s] = 1, counted++;
    }
    return counted;
}

/* counts[1 << bits] of what is seen when `fewer` low bits of the symbol are left out. */
static void fold(uint32_t *to, const uint32_t *from, unsigned bits, unsigned fewer)
{
    for (uint32_t s = 0; s < 1u << (bits - fewer); s++) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < 1u << fewer; i++)
            sum += from[(s << fewer) + i];
        to[s] = sum;
    }
}

/* The wide coder's estimated bits; UINT64_MAX if too many symbols have no byte. */
static uint64_t consider_wide(choice *c, const uint32_t *counts, unsigned symbol_bits, size_t elements)
{
    const unsigned symbols = 1u << symbol_bits;
    /* Below this, a patch costs less than the slot that the symbol takes from the others. */
    const uint32_t worth = (uint32_t)(elements / 65536);
    unsigned highest = 0, best = 0;
    for (unsigned s = 0; s < symbols; s++) {
        if (counts[s] > worth) /* NOLINT(clang-analyzer-core.*): fold() wrote all of them */
            highest = s;
        if (counts[s] > counts[best])
            best = s;
    }
    c->base = ZNN_MIN(highest > 255 ? highest - 255 : 0, best);
    c->common = best - c->base;
    if (c->common > 255)
        return UINT64_MAX;
    uint32_t bytes[256] = {0};
    uint64_t known = 0;
    for (unsigned s = c->base; s < symbols && s < c->base + 256; s++) {
        bytes[s - c->base] = counts[s];
        known += counts[s];
    }
    const uint64_t missing = elements - known;
    bytes[c->common] += (uint32_t)missing;
    if (missing > elements / 16)
        return UINT64_MAX;
    return 8 * (uint64_t)znn_wide_estimate(bytes, elements) + 32 * missing;
}

/* Choose coder and joined mantissa bits from counts of exponent_bits + most_joined bits. */
static bool choose(choice *best, const uint32_t *counts, unsigned exponent_bits, unsigned most_joined,
                   unsigned mantissa_bits, size_t elements, int level, uint32_t *folded)
{
    bool found = false;
    const unsigned all = exponent_bits + most_joined;
    uint64_t best_cost = 0;
    for (unsigned joined = 0; joined <= most_joined; joined++) {
        fold(folded, counts, all, most_joined - joined);
        for (unsigned coder = CODER_NARROW; coder <= CODER_WIDE; coder++) {
            if (coder == CODER_WIDE ? level < 7 && found : joined > 2)
                continue;
            choice c = {.coder = coder, .joined = joined};
            uint64_t bits = coder == CODER_NARROW ? znn_narrow_table_build(&c.table, folded, exponent_bits + joined,
                                                                           elements, exponent_bits <= 5)
                                                  : consider_wide(&c, folded, exponent_bits + joined, elements);
            if (bits == UINT64_MAX)
                continue;
            /* The joined bits need not be stored. */
            uint64_t cost = bits + (uint64_t)(mantissa_bits - joined) * elements;
            if (!found || cost < best_cost) {
                *best = c;
                best_cost = cost;
                found = true;
            }
        }
    }
    return found;
}

/* The 64 exponents that the context coder knows: neighbours, the first of which gives
 * way to the commonest of all others (0, say) if that is commoner. */
static void choose_context(choice *c, const uint32_t *counts, unsigned exponent_bits)
{
    const unsigned exponents = 1u << exponent_bits;
    uint64_t held = 0, most = 0;
    *c = (choice){.coder = CODER_CONTEXT, .joined = CONTEXT_JOINED};
    for (unsigned e = 0; e < exponents; e++) {
        held += counts[e];
        if (e >= ZNN_CONTEXT_INDICES)
            held -= counts[e - ZNN_CONTEXT_INDICES];
        if (held > most) {
            most = held;
            c->base = e >= ZNN_CONTEXT_INDICES ? e - ZNN_CONTEXT_INDICES + 1 : 0;
        }
    }
    c->first = c->base;
    for (unsigned e = 0; e < exponents; e++) {
        const bool outside = e < c->base || e >= c->base + ZNN_CONTEXT_INDICES;
        if (outside && counts[e] > counts[c->first])
            c->first = e;
        if (!outside && counts[e] > counts[c->base + c->common])
            c->common = e - c->base;
    }
}

/* ---- encoding ---------------------------------------------------------- */

typedef struct {
    uint8_t *next;
    const uint8_t *end;
    size_t after; /* the position after the last patch */
    bool full;
} patch_writer;

static void add_patch(patch_writer *w, size_t position, unsigned symbol)
{
    while (position - w->after > PATCH_DISTANCE_MAX && w->end - w->next >= 8) {
        znn_store16(w->next, PATCH_DISTANCE_MAX);
        znn_store16(w->next + 2, NO_SYMBOL);
        w->next += 4;
        w->after += PATCH_DISTANCE_MAX + 1;
    }
    w->full = w->full || w->end - w->next < 8;
    if (w->full)
        return;
    znn_store16(w->next, (uint16_t)(position - w->after));
    znn_store16(w->next + 2, (uint16_t)symbol);
    w->next += 4;
    w->after = position + 1;
}

/* Codes by index: the index itself, or the escape's code. */
static void codes_of(const znn_narrow_table *t, uint8_t codes[ZNN_NARROW_INDICES])
{
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++)
        codes[i] = (uint8_t)i;
    for (unsigned i = 0; i < t->tail_count; i++)
        codes[t->tail[i]] = ZNN_NARROW_ESCAPE | t->tail[0];
}

/* The index that those are coded as whose symbol the table does not know. */
static uint8_t common_of(const znn_narrow_table *t)
{
    unsigned best = ZNN_NARROW_INDICES;
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++)
        if (!(t->tail_count && i == t->tail[0]) && (best == ZNN_NARROW_INDICES || t->freq[i] > t->freq[best]))
            best = i;
    return (uint8_t)best;
}

typedef struct {
    const choice *c;
    znn_symbols symbols;
    uint8_t codes[ZNN_NARROW_INDICES];
    uint8_t common;
    uint8_t *escaped; /* where the next ones go */
    uint16_t code_of_symbol[COUNTS_MAX]; /* context: more than 255 where the symbol is patched */
    patch_writer patches;
} coding;

static void contexts_codes(coding *k, unsigned exponent_bits)
{
    for (unsigned symbol = 0; symbol < 1u << (exponent_bits + CONTEXT_JOINED); symbol++) {
        const unsigned exponent = symbol >> CONTEXT_JOINED;
        unsigned index = exponent == k->c->first ? 0 : exponent - k->c->base, missing = 0;
        if (index >= ZNN_CONTEXT_INDICES || (index == 0 && exponent != k->c->first)) {
            index = k->c->common;
            missing = 256;
        }
        k->code_of_symbol[symbol] = (uint16_t)(missing | index << CONTEXT_JOINED | (symbol & 3));
    }
}

/* Cut `groups` groups at src to codes, planes from group `first` on, escapes, patches. */
static void split_groups(znn_chunk_coder *coder, const znn_fields *f, coding *k, const uint8_t *src, size_t first,
                         size_t groups, uint8_t *const planes[ZNN_PLANES_MAX])
{
    uint8_t *at[ZNN_PLANES_MAX] = {0}, *out = coder->symbols + first * ZNN_GROUP;
    for (unsigned p = 0; p < ZNN_PLANES_MAX; p++)
        if (planes[p])
            at[p] = planes[p] + first * znn_plane_group_size(f, p);
    const znn_paths *paths = znn_paths_chosen();
    const bool contexts = k->c->coder == CODER_CONTEXT;
    if (k->c->coder == CODER_NARROW                       ? paths->knows && paths->knows(f)
        : contexts && f->symbol_bits <= 8 + CONTEXT_JOINED ? paths->split_contexts && paths->knows(f) && f->top_bits < 8
                                                          : false) {
        znn_split_codes codes = {.symbols = &k->symbols,
                                 .codes = k->codes,
                                 .common = contexts ? (uint8_t)(k->c->common << CONTEXT_JOINED) : k->common,
                                 .base = k->c->base,
                                 .first = k->c->first,
                                 .out = out,
                                 .escaped = k->escaped,
                                 .missing = (uint64_t *)(void *)coder->symbols16};
        /* In parts, so that the list of the missing has room: it is as large as chunk_max 16-bit symbols. */
        const size_t most = coder->chunk_max * sizeof *coder->symbols16 / sizeof *codes.missing / ZNN_GROUP;
        for (size_t g = 0; g < groups;) {
            const size_t part = ZNN_MIN(groups - g, most);
            codes.missing_count = 0;
            (contexts ? paths->split_contexts : paths->split)(f, src, part, &codes, at);
            for (size_t i = 0; i < codes.missing_count; i++)
                add_patch(&k->patches, (first + g) * ZNN_GROUP + (size_t)(codes.missing[i] >> 16),
                          codes.missing[i] & 0xffff);
            g += part;
            src += part * ZNN_GROUP * f->element_size;
            for (unsigned p = 0; p < ZNN_PLANES_MAX; p++)
                if (at[p])
                    at[p] += part * znn_plane_group_size(f, p);
        }
        k->escaped = codes.escaped;
        return;
    }
    znn_fields_split(f, src, groups, coder->symbols16, at);
    if (contexts) {
        for (size_t i = 0; i < groups * ZNN_GROUP; i++) {
            const unsigned symbol = coder->symbols16[i], code = k->code_of_symbol[symbol];
            out[i] = (uint8_t)code;
            if (__builtin_expect(code > 255, 0))
                add_patch(&k->patches, first * ZNN_GROUP + i, symbol);
        }
        return;
    }
    if (k->c->coder == CODER_WIDE) {
        for (size_t i = 0; i < groups * ZNN_GROUP; i++) {
            const unsigned byte = coder->symbols16[i] - k->c->base;
            out[i] = (uint8_t)(byte < 256 ? byte : k->c->common);
            if (byte >= 256)
                add_patch(&k->patches, first * ZNN_GROUP + i, coder->symbols16[i]);
        }
        return;
    }
    for (size_t i = 0; i < groups * ZNN_GROUP; i++) {
        const unsigned symbol = coder->symbols16[i], index = symbol % ZNN_NARROW_INDICES;
        const uint8_t code = k->codes[index];
        out[i] = code;
        if (k->symbols.of[index] != symbol) {
            out[i] = k->common;
            add_patch(&k->patches, first * ZNN_GROUP + i, symbol);
        } else if (code & ZNN_NARROW_ESCAPE) {
            *k->escaped++ = (uint8_t)index;
        }
    }
}

static unsigned lanes_log_for(size_t elements)
{
    return elements >= 32768 ? 8 : elements >= 4096 ? 7 : 6;
}

/* Bytes of the last raw plane that the states hold. */
static size_t state_bytes(unsigned lanes, size_t plane_size)
{
    return ZNN_MIN(STATE_BITS * (size_t)lanes / 8, plane_size);
}

/* Where it ends; NULL if it does not fit. */
static uint8_t *put_patches(uint8_t *payload, uint8_t *out, const uint8_t *end, const uint8_t *patches, size_t size)
{
    if ((size_t)(end - out) < size)
        return NULL;
    memcpy(out, patches, size);
    znn_store32(payload + 8, (uint32_t)size);
    return out + size;
}

/* Where an element of a group stands in lane order. */
static void positions_of(uint8_t positions[ZNN_GROUP], const znn_fields *f)
{
    for (unsigned p = 0; p < ZNN_GROUP; p++)
        positions[znn_element_at(f, p)] = (uint8_t)p;
}

/* The context coder's part of the payload, from the table on, at out; where it
 * ends, or NULL if it does not fit. */
static uint8_t *put_contexts(znn_chunk_coder *coder, uint8_t *payload, const coding *k, const znn_fields *f, size_t groups,
                             const uint8_t held[CONTEXT_HELD], uint8_t *out, const uint8_t *end, int level)
{
    uint8_t positions[ZNN_GROUP];
    positions_of(positions, f);
    znn_context_table table;
    const size_t rows = znn_context_model(&table, coder->symbols16, coder->symbols, groups, positions);
    if (end - out < ZNN_CONTEXT_TABLE_MAX + 2)
        return NULL;
    znn_store16(out, (uint16_t)k->c->first);
    out += 2;
    out += znn_context_table_write(&table, out);

    uint8_t *const stream_end = coder->stream + znn_wide_room(coder->chunk_max);
    uint8_t *const escaped_end = coder->escaped + 64 + groups * ZNN_GROUP; /* 64 before are overwritten */
    size_t escapes, size = znn_context_encode_indices(
                        &table, coder->symbols16, rows, groups / ZNN_CONTEXT_LANES * ZNN_CONTEXT_TILE, held, stream_end,
                        escaped_end, &escapes);
    if ((size_t)(end - out) < escapes + 4 + size || escapes > groups * ZNN_GROUP / ZNN_CONTEXT_ESCAPES_SHARE)
        return NULL;
    /* The stream gives way, so that the escapes may be coded with its room. */
    uint8_t *const indices = (uint8_t *)(void *)coder->symbols16, *const coded = indices + size;
    memcpy(indices, stream_end - size, size);
    znn_plane_method method = ZNN_PLANE_RAW;
    size_t packed = 0;
    if (escapes)
        packed = znn_plane_encode(coder, coded, escaped_end - escapes, escapes, true, level, &method);
    memcpy(out, method == ZNN_PLANE_RAW ? escaped_end - escapes : coded, packed);
    out += packed;
    payload[1] = (uint8_t)method;
    znn_store32(payload + 12, (uint32_t)escapes);
    znn_store32(out, (uint32_t)size);
    memcpy(out + 4, indices, size);
    out += 4 + size;

    size = znn_context_encode_parts(&table, coder->symbols, groups, held + CONTEXT_HELD / 2, stream_end);
    if ((size_t)(end - out) < size)
        return NULL;
    memcpy(out, stream_end - size, size);
    return out + size;
}

/* The payload with one choice of coder; its size, 0 if it does not fit. */
static size_t encode_as(znn_chunk_coder *coder, choice c, uint8_t *dst, size_t limit, const uint8_t *src, size_t n,
                        unsigned element_size, unsigned exponent_bits, unsigned drop, int level)
{
    const size_t elements = n / element_size, tail = n % element_size;
    const unsigned symbol_bits = exponent_bits + c.joined;
    znn_fields f;
    if (!znn_fields_init(&f, element_size, drop, symbol_bits))
        return 0;

    /* Header, table. */
    uint8_t *out = dst, *end = dst + znn_chunk_encode_room(n);
    memset(out, 0, HEADER);
    out[0] = (uint8_t)c.coder;
    out[2] = (uint8_t)symbol_bits;
    out[3] = (uint8_t)drop;
    out += HEADER;
    coding k;
    k.c = &c;
    k.escaped = coder->escaped;
    k.patches = (patch_writer){0};
    unsigned common_symbol = c.base + c.common;
    if (c.coder == CODER_NARROW) {
        znn_narrow_table_lay_out(&c.table);
        out += znn_narrow_table_write(&c.table, out);
        memcpy(k.symbols.of, c.table.symbol, sizeof k.symbols.of);
        for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++)
            if (!(c.table.known >> i & 1))
                k.symbols.of[i] = NO_SYMBOL;
        codes_of(&c.table, k.codes);
        k.common = common_of(&c.table);
        common_symbol = k.symbols.of[k.common];
    } else {
        znn_store16(dst + 4, (uint16_t)c.base);
    }
    if (c.coder == CODER_CONTEXT) {
        contexts_codes(&k, exponent_bits);
        common_symbol = (c.common ? c.base + c.common : c.first) << CONTEXT_JOINED;
    }
    /* Cut, the planes to where they stay if they are noise; the last group is
     * filled up with the commonest symbol. */
    const size_t groups = (elements + ZNN_GROUP - 1) / ZNN_GROUP, whole = elements / ZNN_GROUP;
    uint8_t *planes[ZNN_PLANES_MAX] = {0}, *const patches = coder->planes;
    k.patches.next = patches;
    k.patches.end = patches + coder->chunk_max;
    for (unsigned p = 0; p < ZNN_PLANES_MAX; p++)
        if (p < f.byte_planes || p == ZNN_TOP_PLANE) {
            planes[p] = out;
            out += groups * znn_plane_group_size(&f, p);
        }
    if (end - out < 64)
        return 0;
    split_groups(coder, &f, &k, src, 0, whole, planes);
    if (groups > whole) {
        uint8_t last[ZNN_GROUP * 8] = {0};
        for (unsigned i = 0; i < ZNN_GROUP; i++)
            znn_fields_patch(&f, last, i, common_symbol);
        memcpy(last, src + whole * ZNN_GROUP * element_size, (elements % ZNN_GROUP) * element_size);
        split_groups(coder, &f, &k, last, whole, 1, planes);
    }
    if (k.patches.full)
        return 0;

    /* Those planes that are no noise are coded; the others move up. */
    uint8_t *const room = (uint8_t *)(void *)coder->symbols16;
    unsigned methods = 0;
    uint8_t *last_raw = NULL;
    size_t last_raw_size = 0;
    out = planes[f.byte_planes ? 0 : ZNN_TOP_PLANE];
    for (unsigned p = 0; p < ZNN_PLANES_MAX; p++) {
        if (!planes[p])
            continue;
        const size_t size = groups * znn_plane_group_size(&f, p);
        znn_plane_method method = ZNN_PLANE_RAW;
        size_t coded = size;
        if (p != ZNN_TOP_PLANE)
            coded = znn_plane_encode(coder, room, planes[p], size, true, level, &method);
        if (method == ZNN_PLANE_RAW) {
            if (out != planes[p])
                memmove(out, planes[p], size);
            last_raw = out;
            last_raw_size = size;
        } else {
            memcpy(out, room, coded);
        }
        methods |= (unsigned)method << 2 * p;
        out += coded;
    }
    znn_store16(dst + 6, (uint16_t)methods);
    const size_t patch_size = (size_t)(k.patches.next - patches);

    /* What last states hold of the last raw plane leaves it. */
    const unsigned log = lanes_log_for(elements), lanes = 1u << log;
    const size_t held = c.coder == CODER_NARROW    ? state_bytes(lanes, last_raw_size)
                        : c.coder == CODER_CONTEXT ? ZNN_MIN(CONTEXT_HELD, last_raw_size)
                                                   : 0;
    uint8_t bits[ZNN_MAX(STATE_BITS * ZNN_NARROW_LANES_MAX / 8 + 4, CONTEXT_HELD)] = {0};
    if (held) {
        uint8_t *from = last_raw + last_raw_size - held;
        memcpy(bits, from, held);
        memmove(from, from + held, (size_t)(out - from) - held);
        out -= held;
    }
    out = put_patches(dst, out, end, patches, patch_size);
    if (!out)
        return 0;

    /* The symbol stream. */
    size_t stream_size = 0;
    if (c.coder == CODER_NARROW) {
        dst[1] = (uint8_t)log;
        size_t rows = (groups * ZNN_GROUP + lanes - 1) / lanes;
        memset(coder->symbols + groups * ZNN_GROUP, k.common, rows * lanes - groups * ZNN_GROUP);
        const size_t escapes = (size_t)(k.escaped - coder->escaped);
        const size_t packed = znn_narrow_escapes_size(&c.table, escapes);
        znn_store32(dst + 12, (uint32_t)escapes);
        uint16_t states[ZNN_NARROW_LANES_MAX];
        for (unsigned l = 0; l < lanes; l++)
            states[l] = (uint16_t)(0x8000 | (znn_load32(bits + STATE_BITS * l / 8) >> STATE_BITS * l % 8 & 0x7fff));
        uint8_t *stream_end = coder->stream + znn_wide_room(coder->chunk_max);
        stream_size = znn_paths_chosen()->narrow_encode(&c.table, lanes, coder->symbols, rows, states, stream_end);
        if ((size_t)(end - out) < packed + stream_size + tail)
            return 0;
        znn_narrow_escapes_write(out, &c.table, coder->escaped, escapes);
        out += packed;
        memcpy(out, stream_end - stream_size, stream_size);
    } else if (c.coder == CODER_CONTEXT) {
        out = put_contexts(coder, dst, &k, &f, groups, bits, out, end, level);
        if (!out || (size_t)(end - out) < tail)
            return 0;
    } else {
        uint32_t bytes[256] = {0};
        for (size_t i = 0; i < groups * ZNN_GROUP; i++)
            bytes[coder->symbols[i]]++;
        stream_size = znn_wide_encode(coder->stream, coder->symbols, groups * ZNN_GROUP, bytes);
        if ((size_t)(end - out) < stream_size + tail)
            return 0;
        memcpy(out, coder->stream, stream_size);
    }
    out += stream_size;
    memcpy(out, src + n - tail, tail);
    out += tail;
    return (size_t)(out - dst) < limit ? (size_t)(out - dst) : 0;
}

size_t znn_float_encode(znn_chunk_coder *coder, uint8_t *dst, size_t limit, const uint8_t *src, size_t n,
                        znn_dtype dtype, int level, znn_hasher *hasher)
{
    const unsigned element_size = znn_dtype_size(dtype), exponent_bits = znn_exponent_bits(dtype);
    const size_t elements = n / element_size, tail = n % element_size;
    const unsigned mantissa_bits = 8 * element_size - 1 - exponent_bits;
    if (elements < 64) {
        if (hasher)
            znn_hasher_update(hasher, src, n);
        return 0;
    }

    /* What the elements are made of. */
    uint32_t *counts = (uint32_t *)(void *)coder->stream;
    uint32_t folded[COUNTS_MAX];
    unsigned most = level >= 7 ? JOINED_MAX : level < 3 ? 0 : exponent_bits <= 5 ? 2 : 1; /* joined bits */
    most = ZNN_MIN(most, mantissa_bits);
    const size_t counted = count_elements(counts, exponent_bits + most, src, elements, element_size, level, hasher);
    if (hasher && tail)
        znn_hasher_update(hasher, src + n - tail, tail);
    const unsigned drop = ZNN_MIN(zero_bits(src, elements, element_size), mantissa_bits - most);
    choice c, contexts;
    if (!choose(&c, counts, exponent_bits, most, mantissa_bits - drop, counted, level, folded))
        return 0;
    if (level < 7 || elements < ZNN_CONTEXT_GROUPS_MIN * ZNN_GROUP)
        return encode_as(coder, c, dst, limit, src, n, element_size, exponent_bits, drop, level);
    fold(folded, counts, exponent_bits + most, most);
    choose_context(&contexts, folded, exponent_bits);
    const size_t size = encode_as(coder, contexts, dst, limit, src, n, element_size, exponent_bits, drop, level);
    return size ? size : encode_as(coder, c, dst, limit, src, n, element_size, exponent_bits, drop, level);
}

/* ---- decoding ---------------------------------------------------------- */

static void next_patch(znn_patches *p)
{
    p->pending = false;
    while (p->end - p->next >= 4) {
        p->position += znn_load16(p->next);
        p->symbol = znn_load16(p->next + 2);
        p->next += 4;
        if (p->symbol != NO_SYMBOL) {
            p->pending = true;
            return;
        }
        p->position++;
    }
    p->failed = p->failed || p->next != p->end;
}

void znn_patches_begin(znn_patches *p, const uint8_t *src, size_t size)
{
    *p = (znn_patches){.next = src, .end = src + size};
    next_patch(p);
}

void znn_patches_apply(znn_patches *p, const znn_fields *f, uint8_t *dst, size_t first, size_t count)
{
    while (p->pending && p->position < first + count) {
        znn_fields_patch(f, dst, znn_element_at(f, (size_t)p->position - first), p->symbol);
        p->position++;
        next_patch(p);
    }
}

typedef struct {
    znn_chunk_coder *coder;
    const znn_fields *fields;
    const znn_symbols *by_index; /* narrow */
    const uint16_t *symbols;     /* wide, context: of every code */
    znn_patches patches;
    znn_hasher *hasher;
    uint8_t *dst;
    size_t elements; /* of the chunk */
    bool large;
    bool tables_made;
    znn_join_tables tables;
} joiner;

static void join(joiner *j, uint8_t *dst, size_t count, const uint8_t *codes,
                 const uint8_t *const planes[ZNN_PLANES_MAX])
{
    const znn_fields *f = j->fields;
    const znn_paths *paths = znn_paths_chosen();
    if (j->by_index && paths->knows && paths->knows(f)) {
        paths->join(f, dst, count, codes, j->by_index, planes);
        return;
    }
    if (!j->by_index && paths->join_bytes && paths->knows(f)) {
        paths->join_bytes(f, dst, count, codes, j->symbols, planes);
        return;
    }
    if (!j->tables_made)
        znn_fields_tables(&j->tables, f, j->by_index, j->symbols);
    j->tables_made = true;
    znn_fields_join(f, &j->tables, dst, count, codes, planes);
}

/* Join groups [first, first + count), patch, hash, and hand over. */
static void join_block(joiner *j, size_t first, size_t count, const uint8_t *codes,
                       const uint8_t *const planes[ZNN_PLANES_MAX])
{
    const znn_fields *f = j->fields;
    size_t from = first * ZNN_GROUP, to = ZNN_MIN(from + count * ZNN_GROUP, j->elements);
    size_t size = (to - from) * f->element_size;
    bool detour = j->large || to - from < count * ZNN_GROUP;
    uint8_t *out = detour ? j->coder->block : j->dst + from * f->element_size;
    join(j, out, count, codes, planes);
    znn_patches_apply(&j->patches, f, out, from, count * ZNN_GROUP);
    if (j->hasher)
        znn_hasher_update(j->hasher, out, size);
    if (detour)
        znn_copy_out(j->dst + from * f->element_size, out, size, j->large);
}

static void move_on(const znn_fields *f, const uint8_t *planes[ZNN_PLANES_MAX], size_t groups)
{
    for (unsigned p = 0; p < ZNN_PLANES_MAX; p++)
        if (p < f->byte_planes || p == ZNN_TOP_PLANE)
            planes[p] += groups * znn_plane_group_size(f, p);
}

/* The bits that a narrow coder's last states hold; false if they are no encoder's first ones. Eight lanes' bits are 15
 * bytes; 16 are written. */
static bool narrow_held(const znn_narrow_decoder *d, uint8_t bits[STATE_BITS * ZNN_NARROW_LANES_MAX / 8 + 4])
{
    uint64_t all = UINT64_C(0x8080808080808080); /* states are 0x8000 or more */
    for (unsigned l = 0; l < d->lanes; l += 8) {
        uint64_t words[2] = {0, 0}, high = znn_load64(d->high + l), low = znn_load64(d->low + l);
        all &= high;
        for (unsigned i = 0; i < 8; i++)
            words[i / 4] |= ((low >> 8 * i & 0xff) | (high >> 8 * i & 0x7f) << 8) << STATE_BITS * (i % 4);
        znn_store64(bits + STATE_BITS * l / 8, words[0] | words[1] << 60);
        znn_store64(bits + STATE_BITS * l / 8 + 8, words[1] >> 4);
    }
    return all == UINT64_C(0x8080808080808080);
}

/* The plane's end: `stored` bytes at src, then `held` of the `size` bytes that last
 * states hold; false if there are more. */
static bool rebuild_tail(uint8_t *tail, size_t stored, size_t held, const uint8_t *bits, size_t size,
                         const uint8_t *src)
{
    for (size_t i = held; i < size; i++)
        if (bits[i])
            return false;
    if (stored)
        memcpy(tail, src, stored);
    memcpy(tail + stored, bits, held);
    /* Read with the rest, and without effect. Set for valgrind's sake: to it a product of 16 bits, which AVX2 shifts
     * by, is unset as a whole where one bit of a factor is. */
    memset(tail + stored + held, 0, TAIL_SLACK);
    return true;
}

typedef struct {
    znn_context_table table;
    znn_context_stream parts;
    uint8_t held[CONTEXT_HELD];
} contexts;

/* The context coder's indices, to coder->symbols, and its second stream at hand; all of it is in
 * [p, end). decoded: room for the escapes. */
static bool contexts_begin(contexts *c, znn_chunk_coder *coder, const znn_fields *f, uint16_t by_code[256],
                           unsigned base, size_t groups, size_t escapes, znn_plane_method method, const uint8_t *p,
                           const uint8_t *end, uint8_t *decoded)
{
    if (end - p < 2 || groups < ZNN_CONTEXT_GROUPS_MIN ||
        escapes > groups * ZNN_GROUP / ZNN_CONTEXT_ESCAPES_SHARE)
        return false;
    const unsigned first = znn_load16(p);
    for (unsigned code = 0; code < 256; code++) {
        const unsigned index = code >> CONTEXT_JOINED;
        by_code[code] = (uint16_t)((index ? base + index : first) << CONTEXT_JOINED | (code & 3));
    }
    p += 2;
    size_t used = znn_context_table_read(&c->table, p, (size_t)(end - p));
    if (!used || first >> (f->symbol_bits - CONTEXT_JOINED))
        return false;
    p += used;
    if (escapes) {
        const uint8_t *escaped;
        if (!znn_plane_decode(coder, decoded, escapes, p, (size_t)(end - p), method, &escaped, &used))
            return false;
        p += used;
        if (escaped != decoded) /* so that more can be read */
            memcpy(decoded, escaped, escapes);
    }
    for (size_t i = 0; i < escapes; i++)
        if (decoded[i] >= ZNN_CONTEXT_INDICES)
            return false;
    if (end - p < 4)
        return false;
    const size_t size = znn_load32(p);
    p += 4;
    uint8_t positions[ZNN_GROUP];
    positions_of(positions, f);
    return size <= (size_t)(end - p) &&
           znn_context_decode_indices(&c->table, coder->symbols, groups, positions, p, size, decoded, escapes, c->held,
                                      coder->block) &&
           znn_context_parts_begin(&c->parts, p + size, (size_t)(end - p) - size);
}

znn_status znn_float_decode(znn_chunk_coder *coder, uint8_t *dst, size_t n, const uint8_t *src, size_t size,
                            unsigned element_size, znn_hasher *hasher, bool large)
{
    const size_t elements = n / element_size, tail = n % element_size;
    if (size < HEADER + tail || elements == 0)
        return ZNN_ERROR_FORMAT;
    const unsigned kind = src[0], lanes_log = src[1], base = znn_load16(src + 4), methods = znn_load16(src + 6);
    const size_t patch_size = znn_load32(src + 8), escapes = znn_load32(src + 12);
    znn_fields f;
    if (kind > CODER_CONTEXT)
        return ZNN_ERROR_UNSUPPORTED;
    if (!znn_fields_init(&f, element_size, src[3], src[2]) || base >> f.symbol_bits)
        return ZNN_ERROR_FORMAT;
    if ((kind == CODER_NARROW && (lanes_log < 6 || lanes_log > 8 || base)) ||
        (kind == CODER_WIDE && (lanes_log || escapes)) ||
        (kind == CODER_CONTEXT && (lanes_log > ZNN_PLANE_ZSTD || f.symbol_bits <= CONTEXT_JOINED)))
        return ZNN_ERROR_FORMAT;
    const unsigned unused = 0x3fffu >> 2 * f.byte_planes << 2 * f.byte_planes; /* planes that are not there */
    if (methods & unused)
        return ZNN_ERROR_FORMAT;
    const uint8_t *p = src + HEADER, *end = src + size - tail;
    const size_t groups = (elements + ZNN_GROUP - 1) / ZNN_GROUP;
    znn_narrow_table table;
    znn_symbols symbols;
    uint16_t by_code[256];
    for (unsigned i = 0; i < 256; i++)
        by_code[i] = (uint16_t)(i + base);
    joiner j = {.coder = coder,
                .fields = &f,
                .symbols = by_code,
                .hasher = hasher,
                .dst = dst,
                .elements = elements,
                .large = large};
    if (kind == CODER_NARROW) {
        size_t used = znn_narrow_table_read(&table, f.symbol_bits, p, (size_t)(end - p));
        if (!used || escapes > groups * ZNN_GROUP)
            return ZNN_ERROR_FORMAT;
        p += used;
        memcpy(symbols.of, table.symbol, sizeof symbols.of);
        j.by_index = &symbols;
    }
    /* Planes. */
    const unsigned lanes = kind == CODER_NARROW ? 1u << lanes_log : 0;
    int last_raw = -1;
    for (int i = 0; i < ZNN_PLANES_MAX; i++)
        if ((i < (int)f.byte_planes || i == ZNN_TOP_PLANE) && (methods >> 2 * i & 3) == ZNN_PLANE_RAW)
            last_raw = i;
    const uint8_t *planes[ZNN_PLANES_MAX] = {0};
    uint8_t *decoded = coder->planes;
    size_t held = 0, last_raw_stored = 0;
    for (unsigned i = 0; i < ZNN_PLANES_MAX; i++) {
        if (i >= f.byte_planes && i != ZNN_TOP_PLANE)
            continue;
        size_t plane_size = groups * znn_plane_group_size(&f, i), used;
        if ((int)i == last_raw) {
            held = kind == CODER_CONTEXT ? ZNN_MIN(CONTEXT_HELD, plane_size) : state_bytes(lanes, plane_size);
            plane_size -= held;
            last_raw_stored = plane_size;
        }
        if (!znn_plane_decode(coder, decoded, plane_size, p, (size_t)(end - p),
                              (znn_plane_method)(methods >> 2 * i & 3), &planes[i], &used))
            return ZNN_ERROR_FORMAT;
        if (planes[i] == decoded)
            decoded += plane_size;
        p += used;
    }

    if ((size_t)(end - p) < patch_size)
        return ZNN_ERROR_FORMAT;
    znn_patches_begin(&j.patches, p, patch_size);
    p += patch_size;

    /* The symbol stream: all in one loop where there is one, then block by block,
     * so that everything stays in the cache. */
    size_t at = 0; /* groups done */
    const uint8_t *codes = coder->symbols;
    uint8_t last[TAIL_GROUPS * ZNN_GROUP + TAIL_SLACK];
    if (kind == CODER_WIDE) {
        if (!znn_wide_decode(coder->symbols, groups * ZNN_GROUP, p, (size_t)(end - p)))
            return ZNN_ERROR_FORMAT;
    } else if (kind == CODER_CONTEXT) {
        contexts c;
        if (!contexts_begin(&c, coder, &f, by_code, base, groups, escapes, (znn_plane_method)lanes_log, p, end,
                            decoded))
            return ZNN_ERROR_FORMAT;
        const size_t safe = last_raw < 0 ? 0 : last_raw_stored / znn_plane_group_size(&f, (unsigned)last_raw);
        const size_t whole = ZNN_MIN(safe, elements / ZNN_GROUP) / BLOCK_GROUPS * BLOCK_GROUPS;
        for (; at < whole; at += BLOCK_GROUPS) {
            if (!znn_context_decode_parts(&c.table, &c.parts, coder->symbols + at * ZNN_GROUP,
                                          BLOCK_GROUPS * ZNN_GROUP))
                return ZNN_ERROR_FORMAT;
            join_block(&j, at, BLOCK_GROUPS, coder->symbols + at * ZNN_GROUP, planes);
            move_on(&f, planes, BLOCK_GROUPS);
        }
        /* The rest needs what the states hold. */
        codes = coder->symbols + at * ZNN_GROUP;
        const size_t stored = last_raw < 0 ? 0 : last_raw_stored - at * znn_plane_group_size(&f, (unsigned)last_raw);
        if (!znn_context_decode_parts(&c.table, &c.parts, coder->symbols + at * ZNN_GROUP,
                                      (groups - at) * ZNN_GROUP) ||
            !znn_context_parts_end(&c.parts, c.held + CONTEXT_HELD / 2) ||
            !rebuild_tail(last, stored, held, c.held, sizeof c.held, last_raw < 0 ? NULL : planes[last_raw]))
            return ZNN_ERROR_FORMAT;
        if (last_raw >= 0)
            planes[last_raw] = last;
    } else {
        const znn_paths *paths = znn_paths_chosen();
        znn_narrow_decoder d;
        const size_t packed = znn_narrow_escapes_size(&table, escapes);
        if ((size_t)(end - p) < packed + 2 * lanes || !paths->escapes_read(coder->escaped, &table, escapes, p))
            return ZNN_ERROR_FORMAT;
        p += packed;
        if (!znn_narrow_decoder_begin(&d, &table, lanes, p, (size_t)(end - p), coder->escaped))
            return ZNN_ERROR_FORMAT;
        const size_t safe = last_raw < 0 ? groups : last_raw_stored / znn_plane_group_size(&f, (unsigned)last_raw);
        const size_t whole = ZNN_MIN(safe, elements / ZNN_GROUP);
        if (lanes == 256 && paths->fused) {
            znn_fused fused = {.fields = &f,
                               .symbols = &symbols,
                               .decoder = &d,
                               .patches = &j.patches,
                               .dst = dst,
                               .hasher = hasher,
                               .streaming = large};
            memcpy(fused.planes, planes, sizeof planes);
            at = paths->fused(&fused, whole);
            memcpy(planes, fused.planes, sizeof planes);
        }
        for (; at + BLOCK_GROUPS <= whole; at += BLOCK_GROUPS) {
            paths->narrow_decode(&d, coder->symbols, BLOCK_GROUPS * ZNN_GROUP / lanes);
            join_block(&j, at, BLOCK_GROUPS, coder->symbols, planes);
            move_on(&f, planes, BLOCK_GROUPS);
        }
        /* The rest needs the planes' last bytes, which the states hold. */
        if (groups - at > TAIL_GROUPS)
            return ZNN_ERROR_FORMAT;
        paths->narrow_decode(&d, coder->symbols, ((groups - at) * ZNN_GROUP + lanes - 1) / lanes);
        if (d.failed || d.next != d.end || (size_t)(d.escaped - coder->escaped) != escapes)
            return ZNN_ERROR_FORMAT;
        size_t stored = 0;
        if (last_raw >= 0)
            stored = last_raw_stored - at * znn_plane_group_size(&f, (unsigned)last_raw);
        uint8_t bits[STATE_BITS * ZNN_NARROW_LANES_MAX / 8 + 4];
        if (!narrow_held(&d, bits) || !rebuild_tail(last, stored, held, bits, STATE_BITS * (size_t)lanes / 8,
                                                    last_raw >= 0 ? planes[last_raw] : NULL))
            return ZNN_ERROR_FORMAT;
        if (last_raw >= 0)
            planes[last_raw] = last;
    }
    for (; at < groups; at += BLOCK_GROUPS) {
        join_block(&j, at, ZNN_MIN(groups - at, BLOCK_GROUPS), codes, planes);
        codes += BLOCK_GROUPS * ZNN_GROUP;
        move_on(&f, planes, BLOCK_GROUPS);
    }
    if (large)
        znn_copy_out_done();
    if (j.patches.failed || j.patches.pending)
        return ZNN_ERROR_FORMAT;
    memcpy(dst + n - tail, end, tail);
    if (hasher && tail)
        znn_hasher_update(hasher, end, tail);
    return ZNN_OK;
}
