/*
 * Method `float`: the exponent, alone or with the top mantissa bits, is a symbol
 * and entropy-coded; everything below it is cut into planes (fields.h), most of
 * them noise and stored as they are.
 *
 * Payload:
 *      0  u8   coder: 0 narrow, 1 wide
 *      1  u8   log2 of the narrow coder's lanes: 6, 7 or 8; 0 for wide
 *      2  u8   symbol bits
 *      3  u8   dropped low bits
 *      4  u16  base: what is added to a symbol byte
 *      6  u8   number of rare symbols, at most 15
 *      7  u8   zero
 *      8  u16  planes' methods, 2 bits each, plane 0 in the lowest
 *     10  u16  zero
 *     12  u32  bytes of patches
 *     16  rare symbols (u16 each), patches, planes, symbol stream, and the bytes
 *         after the last whole element.
 *
 * Patches mend the elements whose symbol the coder has no room for; they were
 * coded as the commonest one. A patch is a u16: its low 12 bits are the distance from
 * the position after the patch before (lane order), its high 4 bits which rare
 * symbol it is; 15 means that a u16 with the symbol follows, 0xffff there
 * that there is none and the patch only advances.
 *
 * The last raw plane lacks its last 15 * lanes / 8 bytes (or all of it, if it is
 * shorter) where the coder is narrow: they are the low 15 bits of the lanes'
 * last states, 15 bits a lane, least significant bit first; bits left over are 0.
 */
#include "base/cpu.h"
#include "base/log2.h"
#include "chunk/methods.h"
#include "entropy/narrow.h"
#include "entropy/wide.h"

#define HEADER 16
#define CODER_NARROW 0
#define CODER_WIDE 1
#define RARE_MAX 15
#define PATCH_DISTANCE_MAX 4095
#define JOINED_MAX 3      /* mantissa bits in a symbol */
#define COUNTS_MAX (1u << 14)
#define ESCAPE 256        /* in the map from symbols to symbol bytes */
#define BLOCK_GROUPS 64   /* the decoder's step: in the first-level cache */
#define STATE_BITS 15
#define TAIL_GROUPS 256   /* more than a block and the groups that states hold */

typedef struct {
    unsigned coder;
    unsigned joined; /* mantissa bits in the symbol */
    unsigned base;
    uint64_t bits;   /* estimate */
    znn_narrow_table table;
    uint8_t common;  /* the commonest symbol byte */
    uint16_t rare[RARE_MAX];
    unsigned rare_count;
} choice;

/* ---- the instruction set's own ways ---- */

typedef size_t (*narrow_encode_fn)(const znn_narrow_table *, unsigned, const uint8_t *, size_t, const uint16_t *,
                                   uint8_t *);
typedef void (*narrow_decode_fn)(znn_narrow_decoder *, uint8_t *, size_t);

static narrow_encode_fn narrow_encoder(void)
{
#if ZNN_X86
    if (znn_cpu_isa() == ZNN_ISA_AVX512)
        return znn_narrow_encode_avx512;
#endif
    return znn_narrow_encode_scalar;
}

static narrow_decode_fn narrow_decoder(void)
{
#if ZNN_X86
    if (znn_cpu_isa() == ZNN_ISA_AVX512)
        return znn_narrow_decode_avx512;
#endif
    return znn_narrow_decode_scalar;
}

static bool join_fast(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *symbols,
                      const uint8_t *const planes[ZNN_PLANES_MAX])
{
#if ZNN_X86
    return znn_cpu_isa() == ZNN_ISA_AVX512 && znn_fields_join_avx512(f, dst, groups, symbols, planes);
#else
    (void)f, (void)dst, (void)groups, (void)symbols, (void)planes;
    return false;
#endif
}

/* ---- choosing ---------------------------------------------------------- */

static inline __attribute__((always_inline)) uint64_t count_elements(uint32_t *counts, unsigned count_bits,
                                                                     const uint8_t *src, size_t elements,
                                                                     unsigned size)
{
    const unsigned shift = 8 * size - 1 - count_bits;
    const uint32_t mask = (1u << count_bits) - 1;
    /* Four tables, so that equal neighbours do not wait for each other. */
    for (unsigned k = 0; k < 4; k++)
        memset(counts + k * COUNTS_MAX, 0, sizeof *counts << count_bits);
    uint64_t any = 0;
    size_t i = 0;
    for (; elements - i >= 4; i += 4)
        for (unsigned k = 0; k < 4; k++) {
            const uint8_t *p = src + (i + k) * size;
            uint64_t v = size == 1 ? *p : size == 2 ? znn_load16(p) : size == 4 ? znn_load32(p) : znn_load64(p);
            any |= v;
            counts[k * COUNTS_MAX + (v >> shift & mask)]++;
        }
    for (; i < elements; i++) {
        const uint8_t *p = src + i * size;
        uint64_t v = size == 1 ? *p : size == 2 ? znn_load16(p) : size == 4 ? znn_load32(p) : znn_load64(p);
        any |= v;
        counts[v >> shift & mask]++;
    }
    for (uint32_t s = 0; s <= mask; s++)
        counts[s] += counts[s + COUNTS_MAX] + counts[s + 2 * COUNTS_MAX] + counts[s + 3 * COUNTS_MAX];
    return any;
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

static void find_rare(choice *c, const uint32_t *counts, const uint16_t *map, unsigned symbols, uint64_t *escapes,
                      uint64_t *literals)
{
    c->rare_count = 0;
    *escapes = *literals = 0;
    for (unsigned s = 0; s < symbols; s++) {
        if (!counts[s] || map[s] != ESCAPE)
            continue;
        *escapes += counts[s];
        unsigned at = c->rare_count;
        if (at == RARE_MAX) {
            if (counts[s] <= counts[c->rare[at - 1]])
                continue;
            at--;
        } else {
            c->rare_count++;
        }
        for (; at > 0 && counts[c->rare[at - 1]] < counts[s]; at--)
            c->rare[at] = c->rare[at - 1];
        c->rare[at] = (uint16_t)s;
    }
    *literals = *escapes;
    for (unsigned i = 0; i < c->rare_count; i++)
        *literals -= counts[c->rare[i]];
}

/* Fill in map[] and the choice's coder-independent parts; false if too much would escape. */
static bool consider(choice *c, unsigned coder, const uint32_t *counts, unsigned symbol_bits, size_t elements,
                     uint16_t *map)
{
    const unsigned symbols = 1u << symbol_bits;
    /* Below this count, a patch of 16 bits costs less than the slot that the
     * symbol takes from the others, 1/256 or 1/4096 of the probability. */
    const uint32_t worth = coder == CODER_NARROW ? (uint32_t)(elements / 1500) : (uint32_t)(elements / 65536);
    unsigned highest = 0, best = 0;
    for (unsigned s = 0; s < symbols; s++) {
        if (counts[s] > worth)
            highest = s;
        if (counts[s] > counts[best])
            best = s;
    }
    c->coder = coder;
    c->base = highest > 255 ? highest - 255 : 0;
    if (best < c->base)
        c->base = best;
    c->common = (uint8_t)(best - c->base);

    for (unsigned s = 0; s < symbols; s++)
        map[s] = ESCAPE;
    uint64_t escapes, literals;
    if (coder == CODER_NARROW) {
        uint16_t of_low6[ZNN_NARROW_SYMBOLS];
        memset(of_low6, 0xff, sizeof of_low6);
        for (unsigned s = c->base; s < symbols && s < c->base + 256; s++) {
            uint16_t *owner = &of_low6[(s - c->base) & 63];
            if (counts[s] > worth && (*owner == 0xffff || counts[*owner] < counts[s]))
                *owner = (uint16_t)s;
        }
        uint8_t bytes[ZNN_NARROW_SYMBOLS];
        uint32_t weights[ZNN_NARROW_SYMBOLS];
        unsigned n = 0, common_at = 0;
        for (unsigned i = 0; i < ZNN_NARROW_SYMBOLS; i++) {
            if (of_low6[i] == 0xffff)
                continue;
            bytes[n] = (uint8_t)(of_low6[i] - c->base);
            weights[n] = counts[of_low6[i]];
            if (bytes[n] == c->common)
                common_at = n;
            map[of_low6[i]] = bytes[n++];
        }
        if (n == 0)
            return false;
        if (n == 1) { /* a table has two symbols at least */
            bytes[1] = (uint8_t)(bytes[0] ^ 1);
            weights[1] = 0;
            n = 2;
        }
        find_rare(c, counts, map, symbols, &escapes, &literals);
        weights[common_at] += (uint32_t)escapes;
        znn_narrow_table_build(&c->table, bytes, weights, n);
        c->bits = 0;
        for (unsigned i = 0; i < n; i++)
            c->bits += (uint64_t)weights[i] * (8 * 256 - znn_log2_256(c->table.freq[bytes[i] & 63]));
        c->bits = (c->bits >> 8) + 16 * n;
    } else {
        uint32_t bytes[256] = {0};
        for (unsigned s = c->base; s < symbols && s < c->base + 256; s++)
            if (counts[s] > worth)
                map[s] = (uint16_t)(s - c->base);
        find_rare(c, counts, map, symbols, &escapes, &literals);
        for (unsigned s = 0; s < symbols; s++)
            if (map[s] != ESCAPE)
                bytes[map[s]] = counts[s];
        bytes[c->common] += (uint32_t)escapes;
        c->bits = 8 * (uint64_t)znn_wide_estimate(bytes, elements);
    }
    c->bits += 16 * (escapes + literals + c->rare_count);
    return escapes <= elements / 16;
}

/* Choose coder and joined mantissa bits from counts of exponent_bits + most_joined bits. */
static bool choose(choice *best, const uint32_t *counts, unsigned exponent_bits, unsigned most_joined,
                   unsigned mantissa_bits, size_t elements, unsigned element_size, int level, uint32_t *folded,
                   uint16_t *map)
{
    bool found = false;
    const unsigned all = exponent_bits + most_joined;
    uint64_t best_cost = 0;
    for (unsigned joined = 0; joined <= most_joined; joined++) {
        fold(folded, counts, all, most_joined - joined);
        for (unsigned coder = CODER_NARROW; coder <= CODER_WIDE; coder++) {
            if (level < 3 && coder == CODER_WIDE && found)
                continue;
            if (coder == CODER_NARROW && joined > 1)
                continue;
            choice c;
            c.joined = joined;
            if (!consider(&c, coder, folded, exponent_bits + joined, elements, map))
                continue;
            /* The joined bits need not be stored. The wide coder decodes
             * several times slower: except at the maximum level it must save
             * a 64th of the element, or a 1024th of 16 bits whose exponent has 5, for which
             * 8 bits of probability are too few. An element of one byte is slow either way. */
            uint64_t cost = c.bits + (uint64_t)(mantissa_bits - joined) * elements;
            if (coder == CODER_WIDE && level < 7)
                cost += element_size == 1 ? 0 : (uint64_t)elements * 8 * element_size / (exponent_bits <= 5 ? 1024 : 64);
            if (!found || cost < best_cost) {
                *best = c;
                best_cost = cost;
                found = true;
            }
        }
    }
    return found;
}

/* ---- encoding ---------------------------------------------------------- */

static uint8_t *put16(uint8_t *p, unsigned v)
{
    znn_store16(p, (uint16_t)v);
    return p + 2;
}

typedef struct {
    uint8_t *next;
    const uint8_t *end;
    const choice *c;
    size_t after; /* the position after the last patch */
    bool full;
} patch_writer;

static void add_patch(patch_writer *w, size_t position, unsigned symbol)
{
    const choice *c = w->c;
    for (; position - w->after > PATCH_DISTANCE_MAX && w->end - w->next >= 8; w->after += PATCH_DISTANCE_MAX + 1)
        w->next = put16(put16(w->next, PATCH_DISTANCE_MAX | RARE_MAX << 12), 0xffff);
    w->full = w->full || w->end - w->next < 8;
    if (w->full)
        return;
    unsigned r = 0;
    while (r < c->rare_count && c->rare[r] != symbol)
        r++;
    unsigned which = r < c->rare_count ? r : RARE_MAX;
    w->next = put16(w->next, (unsigned)(position - w->after) | which << 12);
    if (which == RARE_MAX)
        w->next = put16(w->next, symbol);
    w->after = position + 1;
}

/* Cut `groups` groups at src: symbol bytes, planes from group `first` on, patches. */
static void split_groups(znn_chunk_coder *coder, const znn_fields *f, const choice *c, const uint16_t *map,
                         const uint8_t *src, size_t first, size_t groups, uint8_t *const planes[ZNN_PLANES_MAX],
                         patch_writer *w)
{
    uint8_t *at[ZNN_PLANES_MAX] = {0}, *symbols = coder->symbols + first * ZNN_GROUP;
    for (unsigned p = 0; p < f->planes; p++)
        at[p] = planes[p] + first * znn_plane_group_size(f, p);
#if ZNN_X86
    if (c->coder == CODER_NARROW && znn_cpu_isa() == ZNN_ISA_AVX512) {
        znn_symbol_map by_low6 = {.common = c->common};
        memset(by_low6.owner, 0xff, sizeof by_low6.owner);
        for (unsigned i = 0; i < c->table.count; i++)
            by_low6.owner[c->table.order[i] & 63] = (uint16_t)(c->table.order[i] + c->base);
        uint64_t *escapes = (uint64_t *)(void *)coder->symbols16;
        size_t count;
        if (znn_fields_split_avx512(f, src, groups, &by_low6, symbols, at, escapes, &count)) {
            for (size_t i = 0; i < count; i++)
                add_patch(w, first * ZNN_GROUP + (size_t)(escapes[i] >> 16), escapes[i] & 0xffff);
            return;
        }
    }
#endif
    znn_fields_split(f, src, groups, coder->symbols16, at);
    for (size_t i = 0; i < groups * ZNN_GROUP; i++) {
        unsigned code = map[coder->symbols16[i]];
        symbols[i] = (uint8_t)code;
        if (code == ESCAPE) {
            symbols[i] = c->common;
            add_patch(w, first * ZNN_GROUP + i, coder->symbols16[i]);
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

size_t znn_float_encode(znn_chunk_coder *coder, uint8_t *dst, size_t limit, const uint8_t *src, size_t n,
                        znn_dtype dtype, int level)
{
    const unsigned element_size = znn_dtype_size(dtype), exponent_bits = znn_exponent_bits(dtype);
    const size_t elements = n / element_size, tail = n % element_size;
    const unsigned mantissa_bits = 8 * element_size - 1 - exponent_bits;
    if (elements < 64)
        return 0;

    /* What the elements are made of. */
    uint32_t *counts = (uint32_t *)(void *)coder->stream;
    uint32_t folded[COUNTS_MAX];
    uint16_t map[COUNTS_MAX];
    unsigned most = exponent_bits <= 5 || level >= 7 ? JOINED_MAX : 1;
    most = ZNN_MIN(most, mantissa_bits);
    uint64_t any;
    switch (element_size) {
    case 1: any = count_elements(counts, exponent_bits + most, src, elements, 1); break;
    case 2: any = count_elements(counts, exponent_bits + most, src, elements, 2); break;
    case 4: any = count_elements(counts, exponent_bits + most, src, elements, 4); break;
    default: any = count_elements(counts, exponent_bits + most, src, elements, 8); break;
    }
    unsigned drop = any ? (unsigned)__builtin_ctzll(any) : 0;
    drop = ZNN_MIN(drop, mantissa_bits - most);
    choice c;
    if (!choose(&c, counts, exponent_bits, most, mantissa_bits - drop, elements, element_size, level, folded, map))
        return 0;
    const unsigned symbol_bits = exponent_bits + c.joined;
    fold(folded, counts, exponent_bits + most, most - c.joined);
    consider(&c, c.coder, folded, symbol_bits, elements, map);
    znn_fields f;
    if (!znn_fields_init(&f, element_size, drop, symbol_bits, c.base))
        return 0;

    /* Cut; the last group is filled up with the commonest symbol. */
    const size_t groups = (elements + ZNN_GROUP - 1) / ZNN_GROUP, whole = elements / ZNN_GROUP;
    uint8_t *planes[ZNN_PLANES_MAX] = {0}, *plane = coder->planes;
    for (unsigned p = 0; p < f.planes; p++) {
        planes[p] = plane;
        plane += groups * znn_plane_group_size(&f, p);
    }
    /* Header, rare symbols, patches. */
    uint8_t *out = dst, *end = dst + znn_chunk_encode_room(n);
    memset(out, 0, HEADER);
    out[0] = (uint8_t)c.coder;
    out[2] = (uint8_t)symbol_bits;
    out[3] = (uint8_t)drop;
    znn_store16(out + 4, (uint16_t)c.base);
    out[6] = (uint8_t)c.rare_count;
    out += HEADER;
    for (unsigned i = 0; i < c.rare_count; i++)
        out = put16(out, c.rare[i]);
    patch_writer patches = {.next = out, .end = end, .c = &c};
    split_groups(coder, &f, &c, map, src, 0, whole, planes, &patches);
    if (groups > whole) {
        uint8_t last[ZNN_GROUP * 8] = {0};
        for (unsigned i = 0; i < ZNN_GROUP; i++)
            znn_fields_patch(&f, last, i, c.common + c.base);
        memcpy(last, src + whole * ZNN_GROUP * element_size, (elements % ZNN_GROUP) * element_size);
        split_groups(coder, &f, &c, map, last, whole, 1, planes, &patches);
    }
    if (patches.full)
        return 0;
    znn_store32(dst + 12, (uint32_t)(patches.next - out));
    out = patches.next;

    /* Planes. */
    unsigned methods = 0;
    uint8_t *last_raw = NULL;
    size_t last_raw_size = 0;
    for (unsigned p = 0; p < f.planes; p++) {
        size_t size = groups * znn_plane_group_size(&f, p);
        if ((size_t)(end - out) < size + 4)
            return 0;
        znn_plane_method method = ZNN_PLANE_RAW;
        size_t coded = size;
        if (p < f.byte_planes)
            coded = znn_plane_encode(coder, out, planes[p], size, true, level, &method);
        if (method == ZNN_PLANE_RAW) {
            memcpy(out, planes[p], size);
            last_raw = out;
            last_raw_size = size;
        }
        methods |= (unsigned)method << 2 * p;
        out += coded;
    }
    znn_store16(dst + 8, (uint16_t)methods);

    /* The symbol stream. */
    size_t stream_size;
    if (c.coder == CODER_NARROW) {
        unsigned log = lanes_log_for(elements), lanes = 1u << log;
        dst[1] = (uint8_t)log;
        size_t rows = (groups * ZNN_GROUP + lanes - 1) / lanes;
        memset(coder->symbols + groups * ZNN_GROUP, c.common, rows * lanes - groups * ZNN_GROUP);
        size_t held = state_bytes(lanes, last_raw_size);
        uint8_t bits[STATE_BITS * ZNN_NARROW_LANES_MAX / 8 + 4] = {0};
        if (held) {
            uint8_t *from = last_raw + last_raw_size - held;
            memcpy(bits, from, held);
            memmove(from, from + held, (size_t)(out - from) - held);
            out -= held;
        }
        uint16_t states[ZNN_NARROW_LANES_MAX];
        for (unsigned l = 0; l < lanes; l++)
            states[l] =
                (uint16_t)(0x8000 | (znn_load32(bits + STATE_BITS * l / 8) >> STATE_BITS * l % 8 & 0x7fff));
        uint8_t *stream_end = coder->stream + znn_wide_room(coder->chunk_max);
        size_t table = znn_narrow_table_write(&c.table, coder->stream);
        stream_size = narrow_encoder()(&c.table, lanes, coder->symbols, rows, states, stream_end);
        if ((size_t)(end - out) < table + stream_size + tail)
            return 0;
        memcpy(out, coder->stream, table);
        out += table;
        memcpy(out, stream_end - stream_size, stream_size);
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

/* ---- decoding ---------------------------------------------------------- */

typedef struct {
    const uint8_t *next, *end;
    const uint8_t *rare; /* u16 each */
    unsigned rare_count;
    uint64_t position;
    unsigned symbol;
    bool pending;        /* position and symbol are those of the next patch */
    bool failed;
} patch_reader;

static void next_patch(patch_reader *r)
{
    r->pending = false;
    while (r->end - r->next >= 2) {
        unsigned word = znn_load16(r->next), which = word >> 12;
        r->next += 2;
        r->position += word & PATCH_DISTANCE_MAX;
        if (which == RARE_MAX) {
            if (r->end - r->next < 2)
                break;
            r->symbol = znn_load16(r->next);
            r->next += 2;
            if (r->symbol == 0xffff) {
                r->position++;
                continue;
            }
        } else {
            if (which >= r->rare_count)
                break;
            r->symbol = znn_load16(r->rare + 2 * which);
        }
        r->pending = true;
        return;
    }
    r->failed = r->next != r->end || r->failed;
}

typedef struct {
    znn_chunk_coder *coder;
    const znn_fields *fields;
    patch_reader patches;
    znn_hasher *hasher;
    uint8_t *dst;
    size_t elements; /* of the chunk */
    bool large;
} joiner;

/* Join groups [first, first + count), patch, hash, and hand over. */
static void join_block(joiner *j, size_t first, size_t count, const uint8_t *symbols,
                       const uint8_t *const planes[ZNN_PLANES_MAX])
{
    const znn_fields *f = j->fields;
    size_t from = first * ZNN_GROUP, to = ZNN_MIN(from + count * ZNN_GROUP, j->elements);
    size_t size = (to - from) * f->element_size;
    bool detour = j->large || to - from < count * ZNN_GROUP;
    uint8_t *out = detour ? j->coder->block : j->dst + from * f->element_size;
    if (!join_fast(f, out, count, symbols, planes))
        znn_fields_join(f, out, count, symbols, planes);
    while (j->patches.pending && j->patches.position < from + count * ZNN_GROUP) {
        if (j->patches.position >= from) /* always so for a valid stream */
            znn_fields_patch(f, out, znn_element_at(f, (size_t)j->patches.position - from), j->patches.symbol);
        j->patches.position++;
        next_patch(&j->patches);
    }
    if (j->hasher)
        znn_hasher_update(j->hasher, out, size);
    if (detour)
        znn_copy_out(j->dst + from * f->element_size, out, size, j->large);
}

static bool rebuild_tail(uint8_t *tail, size_t stored, size_t held, const znn_narrow_decoder *d, const uint8_t *src)
{
    uint8_t bits[STATE_BITS * ZNN_NARROW_LANES_MAX / 8 + 4] = {0};
    for (unsigned l = 0; l < d->lanes; l++) {
        uint32_t x = d->low[l] | (uint32_t)d->high[l] << 8;
        if (x < 0x8000)
            return false;
        uint8_t *at = bits + STATE_BITS * l / 8;
        znn_store32(at, znn_load32(at) | (x & 0x7fff) << STATE_BITS * l % 8);
    }
    for (size_t i = held; i < STATE_BITS * (size_t)d->lanes / 8; i++)
        if (bits[i])
            return false;
    if (stored)
        memcpy(tail, src, stored);
    memcpy(tail + stored, bits, held);
    return true;
}

znn_status znn_float_decode(znn_chunk_coder *coder, uint8_t *dst, size_t n, const uint8_t *src, size_t size,
                            size_t readable, unsigned element_size, znn_hasher *hasher, bool large)
{
    (void)readable;
    const size_t elements = n / element_size, tail = n % element_size;
    if (size < HEADER + tail || elements == 0)
        return ZNN_ERROR_FORMAT;
    const unsigned kind = src[0], lanes_log = src[1], methods = znn_load16(src + 8);
    const size_t patch_size = znn_load32(src + 12);
    znn_fields f;
    if (kind > CODER_WIDE || src[7] || znn_load16(src + 10))
        return ZNN_ERROR_UNSUPPORTED;
    if (src[6] > RARE_MAX || (kind == CODER_NARROW ? lanes_log < 6 || lanes_log > 8 : lanes_log != 0) ||
        !znn_fields_init(&f, element_size, src[3], src[2], znn_load16(src + 4)))
        return ZNN_ERROR_FORMAT;
    const uint8_t *p = src + HEADER, *end = src + size - tail;
    const unsigned rare_count = src[6];
    if ((size_t)(end - p) < 2 * (size_t)rare_count || (size_t)(end - p) - 2 * (size_t)rare_count < patch_size)
        return ZNN_ERROR_FORMAT;
    joiner j = {.coder = coder,
                .fields = &f,
                .patches = {.rare = p, .rare_count = rare_count},
                .hasher = hasher,
                .dst = dst,
                .elements = elements,
                .large = large};
    p += 2 * (size_t)rare_count;
    j.patches.next = p;
    j.patches.end = p + patch_size;
    p += patch_size;
    next_patch(&j.patches);

    /* Planes. */
    const size_t groups = (elements + ZNN_GROUP - 1) / ZNN_GROUP;
    const unsigned lanes = kind == CODER_NARROW ? 1u << lanes_log : 0;
    int last_raw = -1;
    for (unsigned i = 0; i < f.planes; i++)
        if ((methods >> 2 * i & 3) == ZNN_PLANE_RAW)
            last_raw = (int)i;
    const uint8_t *planes[ZNN_PLANES_MAX] = {0};
    uint8_t *decoded = coder->planes;
    size_t held = 0, last_raw_stored = 0;
    for (unsigned i = 0; i < f.planes; i++) {
        size_t plane_size = groups * znn_plane_group_size(&f, i), used;
        if ((int)i == last_raw) {
            held = state_bytes(lanes, plane_size);
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

    /* The symbol stream: block by block, so that everything stays in the cache. */
    size_t at = 0; /* groups done */
    const uint8_t *symbols = coder->symbols;
    uint8_t last[TAIL_GROUPS * ZNN_GROUP];
    if (kind == CODER_WIDE) {
        if (!znn_wide_decode(coder->symbols, groups * ZNN_GROUP, p, (size_t)(end - p)))
            return ZNN_ERROR_FORMAT;
    } else {
        znn_narrow_table table;
        znn_narrow_decoder d;
        size_t used = znn_narrow_table_read(&table, p, (size_t)(end - p));
        if (!used || !znn_narrow_decoder_begin(&d, &table, lanes, p + used, (size_t)(end - p) - used))
            return ZNN_ERROR_FORMAT;
        const narrow_decode_fn decode = narrow_decoder();
        const size_t safe = last_raw < 0 ? groups : last_raw_stored / znn_plane_group_size(&f, (unsigned)last_raw);
        for (; at + BLOCK_GROUPS <= safe && at + BLOCK_GROUPS <= elements / ZNN_GROUP; at += BLOCK_GROUPS) {
            /* While symbols are computed, the block's planes come from memory. */
            for (unsigned i = 0; i < f.planes; i++)
                for (size_t b = 0; b < BLOCK_GROUPS * znn_plane_group_size(&f, i); b += 64)
                    __builtin_prefetch(planes[i] + b);
            decode(&d, coder->symbols, BLOCK_GROUPS * ZNN_GROUP / lanes);
            join_block(&j, at, BLOCK_GROUPS, coder->symbols, planes);
            for (unsigned i = 0; i < f.planes; i++)
                planes[i] += BLOCK_GROUPS * znn_plane_group_size(&f, i);
        }
        /* The rest needs the planes' last bytes, which the states hold. */
        decode(&d, coder->symbols, ((groups - at) * ZNN_GROUP + lanes - 1) / lanes);
        if (d.failed || d.next != d.end)
            return ZNN_ERROR_FORMAT;
        if (groups - at > TAIL_GROUPS)
            return ZNN_ERROR_FORMAT;
        size_t stored = 0;
        if (last_raw >= 0)
            stored = last_raw_stored - at * znn_plane_group_size(&f, (unsigned)last_raw);
        if (!rebuild_tail(last, stored, held, &d, last_raw >= 0 ? planes[last_raw] : NULL))
            return ZNN_ERROR_FORMAT;
        if (last_raw >= 0)
            planes[last_raw] = last;
    }
    for (; at < groups; at += BLOCK_GROUPS) {
        join_block(&j, at, ZNN_MIN(groups - at, BLOCK_GROUPS), symbols, planes);
        symbols += BLOCK_GROUPS * ZNN_GROUP;
        for (unsigned i = 0; i < f.planes; i++)
            planes[i] += BLOCK_GROUPS * znn_plane_group_size(&f, i);
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
