#include "chunk/fused.h"

#include "base/hash_avx2.h"
#include "chunk/fields_avx2.h"
#include "entropy/narrow_avx2.h"

#define LANES 256
#define UNIT 2048 /* bytes */
#define RING 4    /* units on their way to memory */
#define LAG 2     /* units between making an element and copying it out */
#define USUAL 3   /* escapes among 64 elements that are listed without asking how many there are */

/*
 * A unit is as many rows of 256 lanes as fill it. It is made in a ring in the
 * first-level cache; escaped symbols and patches are put in there, and it is hashed.
 * Two units later it is stored at dst, a vector for every vector that is made,
 * so that neither computing nor memory waits for the other. Two, since dst's 64-byte
 * boundaries are not the ring's: `head` bytes of the next unit are needed.
 */
typedef struct {
    uint8_t *to; /* where the next unit goes, on a boundary of 64 bytes */
    size_t head; /* bytes before the boundary */
    bool streaming;
} outlet;

ZNN_INLINE void put_line(const outlet *o, const uint8_t *from, size_t at)
{
    for (unsigned half = 0; half < 64; half += 32) {
        __m256i data = znn_load(from + o->head + at + half);
        if (o->streaming)
            _mm256_stream_si256((__m256i *)(void *)(o->to + at + half), data);
        else
            _mm256_store_si256((__m256i *)(void *)(o->to + at + half), data);
    }
}

typedef struct {
    znn_narrow_vectors narrow;
    znn_join_vectors join;
    znn_table64 first, second; /* symbols' bytes by rank; 0 for the escape */
    __m128i drop;
    unsigned top_size, symbol_shift;
    uint8_t element_at[ZNN_GROUP];
} vectors;

typedef struct {
    uint16_t at[UNIT + 64]; /* positions in the unit */
    size_t count;
} escape_list;

static void vectors_load(vectors *t, const znn_fused *fused)
{
    const znn_fields *f = fused->fields;
    const znn_narrow_table *table = fused->decoder->table;
    uint8_t by_index[2][64], by_rank[2][64] = {{0}}, codes[64] = {0}, rank_of_slot[256];
    znn_symbol_bytes(f, fused->symbols, by_index[0], by_index[1]);
    const unsigned n = znn_narrow_ranks(table, codes, rank_of_slot);
    for (unsigned i = 0; i < n; i++)
        for (unsigned b = 0; b < 2 && !(codes[i] & ZNN_NARROW_ESCAPE); b++)
            by_rank[b][i] = by_index[b][codes[i]];
    znn_narrow_vectors_load(&t->narrow, table);
    t->join = znn_join_vectors_load(f);
    t->first = znn_table64_load(by_rank[0], 2);
    t->second = znn_table64_load(by_rank[1], 2);
    t->drop = _mm_cvtsi32_si128((int)f->drop % 8);
    t->top_size = 4 * f->top_bits;
    t->symbol_shift = f->drop + 8 * f->byte_planes + f->top_bits - 1;
    for (unsigned i = 0; i < ZNN_GROUP; i++)
        t->element_at[i] = (uint8_t)znn_element_at(f, i);
}

/* The g-th group of a unit, into `into`, while as much of the unit at `from` (if any) leaves. */
ZNN_INLINE void join_group(const znn_layout l, const vectors *t, const uint8_t *ranks, const uint8_t *const *planes,
                           unsigned g, uint8_t *into, escape_list *escapes, const outlet *o, const uint8_t *from)
{
    uint64_t escaped = 0;
    for (unsigned half = 0; half < 2; half++) {
        __m256i rank = znn_load(ranks + ZNN_GROUP * g + 32 * half), out[8];
        escaped |= (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(rank, t->narrow.escape)) << 32 * half;
        __m256i first = znn_look_up64(&t->first, 2, rank);
        __m256i second = l.two ? znn_look_up64(&t->second, 2, rank) : first;
        znn_join_half(&t->join, l, first, second, planes[ZNN_TOP_PLANE] + (2 * g + half) * t->top_size, planes,
                      ZNN_GROUP * g + 32 * half, out);
        for (unsigned q = 0; q < l.size; q++) {
            if (l.shifted)
                out[q] = l.size == 2 ? _mm256_sll_epi16(out[q], t->drop) : _mm256_sll_epi32(out[q], t->drop);
            znn_store(into + 64 * (l.size * g + q) + 32 * half, out[q]);
        }
    }
    for (unsigned q = 0; q < l.size && from; q++)
        put_line(o, from, 64 * (l.size * g + q));
    const unsigned count = (unsigned)_mm_popcnt_u64(escaped);
    uint16_t *at = escapes->at + escapes->count;
    for (unsigned i = 0; i < USUAL; i++, escaped = _blsr_u64(escaped))
        at[i] = (uint16_t)(ZNN_GROUP * g + _tzcnt_u64(escaped));
    for (unsigned i = USUAL; __builtin_expect(i < count, 0); i++, escaped = _blsr_u64(escaped))
        at[i] = (uint16_t)(ZNN_GROUP * g + _tzcnt_u64(escaped));
    escapes->count += count;
}

/* Their symbols' bits are 0 so far. */
ZNN_INLINE void put_escapes(const znn_layout l, const vectors *t, const znn_fused *fused, const escape_list *escapes,
                            uint8_t *unit)
{
    const uint8_t *index = fused->decoder->escaped;
    for (size_t i = 0; i < escapes->count; i++) {
        const unsigned at = escapes->at[i];
        uint8_t *p = unit + (at / ZNN_GROUP * ZNN_GROUP + t->element_at[at % ZNN_GROUP]) * l.size;
        const uint64_t bits = (uint64_t)fused->symbols->of[index[i] % ZNN_NARROW_INDICES] << t->symbol_shift;
        switch (l.size) {
        case 1: *p |= (uint8_t)bits; break;
        case 2: znn_store16(p, (uint16_t)(znn_load16(p) | bits)); break;
        case 4: znn_store32(p, (uint32_t)(znn_load32(p) | bits)); break;
        default: znn_store64(p, znn_load64(p) | bits); break;
        }
    }
    fused->decoder->escaped = index + escapes->count;
}

ZNN_INLINE size_t run(znn_fused *fused, const znn_layout l, const size_t units)
{
    const unsigned groups = UNIT / l.size / ZNN_GROUP, rows = UNIT / l.size / LANES;
    znn_narrow_decoder *const d = fused->decoder;
    znn_patches *const patches = fused->patches;
    vectors t;
    vectors_load(&t, fused);
    _Alignas(64) uint8_t ring[RING * UNIT + 64]; /* the first 64 bytes again at the end */
    outlet o = {.streaming = fused->streaming};
    o.head = (64 - ((uintptr_t)fused->dst & 63)) & 63;
    o.to = fused->dst + o.head;
    uint8_t ranks[UNIT];
    uint64_t acc[8];
    const uint8_t *const secret = fused->hasher ? znn_hasher_take(fused->hasher, acc) : NULL;
    escape_list escapes;
    size_t made = 0, sure = 0, position = 0;
    for (; made < units; made++, sure--, position += UNIT / l.size) {
        if (sure == 0) {
            sure = znn_narrow_decoder_ready(d) / rows;
            if (sure == 0)
                break;
        }
        uint8_t *const into = ring + made % RING * UNIT;
        znn_narrow_ranks_of_rows(&t.narrow, (znn_narrow_shape){.spread = !l.two, .many = false}, d, rows, ranks);
        escapes.count = 0;
        if (made < LAG) {
            for (unsigned g = 0; g < groups; g++)
                join_group(l, &t, ranks, fused->planes, g, into, &escapes, &o, NULL);
        } else {
            const uint8_t *from = ring + (made - LAG) % RING * UNIT;
            for (unsigned g = 0; g < groups; g++)
                join_group(l, &t, ranks, fused->planes, g, into, &escapes, &o, from);
            o.to += UNIT;
        }
        for (unsigned p = 0; p < l.bytes; p++)
            fused->planes[p] += ZNN_GROUP * groups;
        fused->planes[ZNN_TOP_PLANE] += 2 * t.top_size * groups;
        put_escapes(l, &t, fused, &escapes, into);
        if (patches->pending && patches->position < position + UNIT / l.size)
            znn_patches_apply(patches, fused->fields, into, position, UNIT / l.size);
        for (unsigned at = 0; at < UNIT && fused->hasher; at += ZNN_HASH_BLOCK)
            znn_hash_block_avx2(acc, secret, into + at);
        if (made % RING == 0)
            memcpy(ring + RING * UNIT, ring, 64);
        if (made == 0)
            memcpy(fused->dst, ring, o.head);
    }
    /* What is still in the ring. The last unit has no neighbour: all but its last bytes. */
    for (size_t u = made > LAG ? made - LAG : 0; u < made; u++) {
        const uint8_t *from = ring + u % RING * UNIT;
        if (u + 1 < made) {
            for (unsigned at = 0; at < UNIT; at += 64)
                put_line(&o, from, at);
            o.to += UNIT;
        } else {
            memcpy(o.to, from + o.head, UNIT - o.head);
        }
    }
    if (fused->hasher && made)
        znn_hasher_resume(fused->hasher, acc, made * UNIT);
    fused->dst += made * UNIT;
    return made * groups;
}

size_t znn_fused_decode_avx2(znn_fused *fused, size_t groups)
{
    const znn_fields *f = fused->fields;
    const znn_narrow_table *t = fused->decoder->table;
    unsigned codes = 0, most = 0;
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        codes += t->freq[i] != 0;
        most = ZNN_MAX(most, t->freq[i]);
    }
    /* The encoder spreads the slots where the symbol is in one byte; other tables are rare. */
    if (t->spread == znn_layout_of(f).two || codes > 32 || most > 127)
        return 0;
    const size_t unit_groups = UNIT / f->element_size / ZNN_GROUP;
    if (groups <= unit_groups) /* one is left, so that XXH3's end is the library's */
        return 0;
    const size_t units = (groups - 1) / unit_groups;
#define RUN(size, bytes, two, shifted)                                                                                 \
    if (znn_layout_is(f, (znn_layout){size, bytes, two, shifted}))                                                     \
        return run(fused, (znn_layout){size, bytes, two, shifted}, units);
    ZNN_LAYOUTS(RUN)
#undef RUN
    return 0;
}
