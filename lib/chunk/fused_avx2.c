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
    const uint8_t *secret; /* if it is hashed */
    uint64_t acc[8];
} outlet;

ZNN_INLINE void put_half(const outlet *o, const uint8_t *from, size_t at)
{
    __m256i data = znn_load(from + o->head + at);
    if (o->streaming)
        _mm256_stream_si256((__m256i *)(void *)(o->to + at), data);
    else
        _mm256_store_si256((__m256i *)(void *)(o->to + at), data);
}

typedef struct {
    znn_narrow_vectors narrow;
    znn_join_vectors join;
    znn_table64 first, second; /* symbols' bytes by code; of the escape, the sign's bit in the last, else 0 */
    __m128i drop;
    unsigned top_size, symbol_shift;
    uint64_t sign; /* what of that bit comes to be in an element */
    uint8_t element_at[ZNN_GROUP];
} vectors;

typedef struct {
    uint16_t at[UNIT + 64]; /* positions in the unit */
    size_t count;
} escape_list;

static void vectors_load(vectors *t, const znn_fused *fused)
{
    const znn_fields *f = fused->fields;
    const bool two = znn_layout_of(f).two;
    uint8_t by_index[2][64], by_rank[2][64] = {{0}};
    znn_symbol_bytes(f, fused->symbols, by_index[0], by_index[1]);
    znn_narrow_vectors_load(&t->narrow, fused->decoder->table);
    for (unsigned i = 0; i < 64; i++)
        for (unsigned b = 0; b < 2; b++)
            by_rank[b][i] = t->narrow.codes[i] & ZNN_NARROW_ESCAPE ? (b == two ? 0x80 : 0)
                                                                   : by_index[b][t->narrow.codes[i]];
    t->join = znn_join_vectors_load(f);
    t->first = znn_narrow_by_code(&t->narrow, by_rank[0]);
    t->second = znn_narrow_by_code(&t->narrow, by_rank[1]);
    t->drop = _mm_cvtsi32_si128((int)f->drop % 8);
    t->top_size = 4 * f->top_bits;
    t->sign = f->drop % 8 ? 0 : UINT64_C(1) << (8 * f->element_size - 1);
    t->symbol_shift = f->drop + 8 * f->byte_planes + f->top_bits - 1;
    for (unsigned i = 0; i < ZNN_GROUP; i++)
        t->element_at[i] = (uint8_t)znn_element_at(f, i);
}

/* A unit's elements, and where escapes are among them, while as much of the unit at `from` (if any) leaves. No more is
 * in this loop, so that its tables stay in registers. */
ZNN_INLINE void join_unit(const znn_layout l, const vectors *loaded, const uint8_t *a, const uint8_t *b,
                          const uint8_t *const *planes, uint8_t *into, escape_list *escapes, const outlet *o,
                          const uint8_t *from)
{
    const znn_narrow_shape two_tables = {.codes = ZNN_BY_QUAD};
    const znn_table64 first_table = loaded->first, second_table = loaded->second;
    const znn_join_vectors join = loaded->join;
    const __m128i drop = loaded->drop;
    const size_t top_size = loaded->top_size;
    const uint8_t *top = planes[ZNN_TOP_PLANE];
    uint64_t escaped = 0;
    uint16_t *place = escapes->at;
    for (unsigned at = 0; at < UNIT / l.size; at += 32, top += top_size) {
        const znn_codes codes = {znn_load(a + at), znn_load(b + at)};
        __m256i out[8], first = znn_narrow_look_up(&first_table, two_tables, codes);
        __m256i second = l.two ? znn_narrow_look_up(&second_table, two_tables, codes) : first;
        escaped = escaped >> 32 | (uint64_t)(uint32_t)_mm256_movemask_epi8(second) << 32;
        znn_join_half(&join, l, first, second, top, planes, at, out);
        znn_prefetch_ahead(top);
        for (unsigned p = 0; p < l.bytes; p++)
            znn_prefetch_ahead(planes[p] + at);
        uint8_t *const to = into + at / ZNN_GROUP * ZNN_GROUP * l.size + at % ZNN_GROUP;
        for (unsigned q = 0; q < l.size; q++) {
            if (l.shifted)
                out[q] = l.size == 2 ? _mm256_sll_epi16(out[q], drop) : _mm256_sll_epi32(out[q], drop);
            znn_store(to + 64 * q, out[q]);
        }
        for (unsigned q = 0; q < l.size && from; q++)
            put_half(o, from, l.size * at + 32 * q);
        if (at % ZNN_GROUP == 0)
            continue;
        const unsigned count = (unsigned)_mm_popcnt_u64(escaped), first_at = at - 32;
        for (unsigned i = 0; i < USUAL; i++, escaped = _blsr_u64(escaped))
            place[i] = (uint16_t)(first_at + _tzcnt_u64(escaped));
        for (unsigned i = USUAL; __builtin_expect(i < count, 0); i++, escaped = _blsr_u64(escaped))
            place[i] = (uint16_t)(first_at + _tzcnt_u64(escaped));
        place += count;
    }
    escapes->count = (size_t)(place - escapes->at);
}

/* Their symbols' bits are 0 so far, and their signs the wrong ones. Returns what comes after these indices. */
ZNN_INLINE const uint8_t *put_escapes(const znn_layout l, const vectors *t, const znn_symbols *symbols,
                                      const uint8_t *index, const escape_list *escapes, uint8_t *unit)
{
    for (size_t i = 0; i < escapes->count; i++) {
        const unsigned at = escapes->at[i];
        uint8_t *p = unit + (at / ZNN_GROUP * ZNN_GROUP + t->element_at[at % ZNN_GROUP]) * l.size;
        const uint64_t symbol = symbols->of[index[i] % ZNN_NARROW_INDICES], bits = symbol << t->symbol_shift ^ t->sign;
        switch (l.size) {
        case 1: *p ^= (uint8_t)bits; break;
        case 2: znn_store16(p, (uint16_t)(znn_load16(p) ^ bits)); break;
        case 4: znn_store32(p, (uint32_t)(znn_load32(p) ^ bits)); break;
        default: znn_store64(p, znn_load64(p) ^ bits); break;
        }
    }
    return index + escapes->count;
}

ZNN_INLINE void hash_unit(outlet *o, const uint8_t *from)
{
    for (unsigned at = 0; at < UNIT && o->secret; at += ZNN_HASH_BLOCK)
        znn_hash_block_avx2(o->acc, o->secret, from + at);
}

ZNN_INLINE size_t run(znn_fused *fused, const znn_layout l, const vectors *t, const size_t units)
{
    const unsigned groups = UNIT / l.size / ZNN_GROUP, rows = UNIT / l.size / LANES;
    znn_narrow_decoder *const d = fused->decoder;
    znn_patches *const patches = fused->patches;
    _Alignas(64) uint8_t ring[RING * UNIT + 64]; /* the first 64 bytes again at the end */
    uint8_t a[UNIT], b[UNIT];
    escape_list escapes;
    outlet o = {.streaming = fused->streaming};
    o.head = (64 - ((uintptr_t)fused->dst & 63)) & 63;
    o.to = fused->dst + o.head;
    if (fused->hasher)
        o.secret = znn_hasher_take(fused->hasher, o.acc);
    size_t made = 0, sure = 0, position = 0;
    for (; made < units; made++, sure--, position += UNIT / l.size) {
        if (sure == 0) {
            sure = znn_narrow_decoder_ready(d) / rows;
            if (sure == 0)
                break;
        }
        uint8_t *const into = ring + made % RING * UNIT;
        znn_narrow_rows_avx2(&t->narrow, d, rows, a, b);
        for (unsigned i = 0; i < UNIT / l.size / 2; i += 64)
            znn_prefetch_ahead(d->next + i);
        if (made < LAG) {
            join_unit(l, t, a, b, fused->planes, into, &escapes, &o, NULL);
        } else {
            const uint8_t *from = ring + (made - LAG) % RING * UNIT;
            hash_unit(&o, from);
            join_unit(l, t, a, b, fused->planes, into, &escapes, &o, from);
            o.to += UNIT;
        }
        for (unsigned p = 0; p < l.bytes; p++)
            fused->planes[p] += ZNN_GROUP * groups;
        fused->planes[ZNN_TOP_PLANE] += 2 * t->top_size * groups;
        d->escaped = put_escapes(l, t, fused->symbols, d->escaped, &escapes, into);
        if (patches->pending && patches->position < position + UNIT / l.size)
            znn_patches_apply(patches, fused->fields, into, position, UNIT / l.size);
        if (made % RING == 0)
            memcpy(ring + RING * UNIT, ring, 64);
        if (made == 0)
            memcpy(fused->dst, ring, o.head);
    }
    /* What is still in the ring. The last unit has no neighbour: all but its last bytes. */
    for (size_t u = made > LAG ? made - LAG : 0; u < made; u++) {
        const uint8_t *from = ring + u % RING * UNIT;
        hash_unit(&o, from);
        if (u + 1 < made) {
            for (unsigned at = 0; at < UNIT; at += 32)
                put_half(&o, from, at);
            o.to += UNIT;
        } else {
            memcpy(o.to, from + o.head, UNIT - o.head);
        }
    }
    if (o.secret && made)
        znn_hasher_resume(fused->hasher, o.acc, made * UNIT);
    fused->dst += made * UNIT;
    return made * groups;
}

size_t znn_fused_decode_avx2(znn_fused *fused, size_t groups)
{
    const znn_fields *f = fused->fields;
    const size_t unit_groups = UNIT / f->element_size / ZNN_GROUP;
    if (groups <= unit_groups) /* one is left, so that XXH3's end is the library's */
        return 0;
    const size_t units = (groups - 1) / unit_groups;
    vectors t;
    vectors_load(&t, fused);
    if (t.narrow.shape.codes == ZNN_BY_SLOT)
        return 0;
#define RUN(size, bytes, two, shifted)                                                                                 \
    if (znn_layout_is(f, (znn_layout){size, bytes, two, shifted}))                                                     \
        return run(fused, (znn_layout){size, bytes, two, shifted}, &t, units);
    ZNN_LAYOUTS(RUN)
#undef RUN
    return 0;
}
