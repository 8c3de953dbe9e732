#include "chunk/fused.h"

#include "base/hash_avx512.h"
#include "chunk/fields_avx512.h"
#include "entropy/narrow_avx512.h"

#define VECTORS 4 /* of 64 lanes */
#define LANES (64 * VECTORS)
#define RING 4 /* units on their way to memory */
#define LAG 2  /* units between making an element and copying it out */

/*
 * A unit is a row of 256 lanes, or as many as fill a block of XXH3 (1024
 * bytes). It is made in a ring in the first-level cache and patched there; two
 * units later it is hashed and stored at dst, one vector for every vector that
 * is made, so that neither computing nor memory waits for the other. Two, since
 * dst's 64-byte boundaries are not the ring's: `head` bytes of the next unit are needed.
 */
typedef struct {
    uint8_t *to; /* where the next unit goes, on a boundary of 64 bytes */
    size_t head; /* bytes before the boundary */
    bool streaming, hashed;
    znn_hash_block hash;
    __m512i next; /* of the ring: what is put next */
    __m512i turn; /* places of 64 bytes in two vectors, from `head` on */
} outlet;

ZNN_INLINE void hash_vector(outlet *o, __m512i data, unsigned v)
{
    if (o->hashed)
        znn_hash_stripe(&o->hash, data, v % 16);
    if (o->hashed && v % 16 == 15)
        znn_hash_end_block(&o->hash);
}

ZNN_INLINE void put_vector(outlet *o, const uint8_t *from, unsigned v)
{
    /* Loads are what there is least room for: each vector of the ring is read once, and on its boundary. */
    const __m512i first = o->next;
    o->next = _mm512_load_si512(from + 64 * (v + 1));
    hash_vector(o, first, v);
    const __m512i data = _mm512_permutex2var_epi8(first, o->turn, o->next);
    if (o->streaming)
        _mm512_stream_si512((void *)(o->to + 64 * v), data);
    else
        _mm512_store_si512((void *)(o->to + 64 * v), data);
}

/* The lanes' states, each a variable: compilers keep arrays of them in memory. */
typedef struct {
    __m512i low0, high0, low1, high1, low2, high2, low3, high3;
    const uint8_t *next, *escaped;
    const uint8_t *planes[ZNN_PLANES_MAX];
} lanes;

typedef struct {
    znn_narrow_vectors narrow;
    znn_join_vectors join;
    size_t top_size;
} vectors;

/* 64 lanes of a row: the v-th group of a unit, into `into`, while as much of the
 * unit at `from` (if any) leaves. */
ZNN_INLINE void run_group(const znn_layout l, const vectors *t, lanes *s, __m512i *low, __m512i *high, unsigned v,
                          uint8_t *into, outlet *o, const uint8_t *from)
{
    __m512i out[8];
    __m512i index = znn_narrow_step(&t->narrow, !l.two, true, low, high, &s->next, &s->escaped);
    znn_join_group(&t->join, l, index, s->planes[ZNN_TOP_PLANE], s->planes, 64 * (v % VECTORS), out);
    s->planes[ZNN_TOP_PLANE] += t->top_size;
    znn_prefetch_ahead(s->planes[ZNN_TOP_PLANE]);
    if (v % 2 == 0)
        znn_prefetch_ahead(s->next);
    for (unsigned p = 0; p < l.bytes; p++)
        znn_prefetch_ahead(s->planes[p] + 64 * (v % VECTORS));
    for (unsigned q = 0; q < l.size; q++) {
        _mm512_store_si512((void *)(into + 64 * (l.size * v + q)), out[q]);
        if (from)
            put_vector(o, from, l.size * v + q);
    }
}

ZNN_INLINE void run_unit(const znn_layout l, const unsigned rows, const vectors *t, lanes *s, uint8_t *into, outlet *o,
                         const uint8_t *from)
{
    for (unsigned r = 0; r < rows; r++) {
        run_group(l, t, s, &s->low0, &s->high0, VECTORS * r, into, o, from);
        run_group(l, t, s, &s->low1, &s->high1, VECTORS * r + 1, into, o, from);
        run_group(l, t, s, &s->low2, &s->high2, VECTORS * r + 2, into, o, from);
        run_group(l, t, s, &s->low3, &s->high3, VECTORS * r + 3, into, o, from);
        for (unsigned p = 0; p < l.bytes; p++)
            s->planes[p] += LANES;
    }
}

ZNN_INLINE size_t run(znn_fused *fused, const znn_layout l, const size_t units)
{
    const unsigned rows = l.size >= 4 ? 1 : 4 / l.size;
    const size_t unit_size = (size_t)rows * LANES * l.size;
    znn_narrow_decoder *const d = fused->decoder;
    znn_patches *const patches = fused->patches;
    const vectors t = {.narrow = znn_narrow_vectors_load(d->table),
                       .join = znn_join_vectors_load(fused->fields, fused->symbols),
                       .top_size = 8 * (size_t)fused->fields->top_bits};
    lanes s = {.low0 = _mm512_load_si512(d->low),
               .low1 = _mm512_load_si512(d->low + 64),
               .low2 = _mm512_load_si512(d->low + 128),
               .low3 = _mm512_load_si512(d->low + 192),
               .high0 = _mm512_load_si512(d->high),
               .high1 = _mm512_load_si512(d->high + 64),
               .high2 = _mm512_load_si512(d->high + 128),
               .high3 = _mm512_load_si512(d->high + 192),
               .next = d->next,
               .escaped = d->escaped};
    memcpy(s.planes, fused->planes, sizeof s.planes);
    _Alignas(64) uint8_t ring[RING * 2048 + 64]; /* the first 64 bytes again at the end */
    outlet o = {.streaming = fused->streaming, .hashed = fused->hasher != NULL};
    o.head = (64 - ((uintptr_t)fused->dst & 63)) & 63;
    o.to = fused->dst + o.head;
    {
        _Alignas(64) uint8_t turn[64];
        for (unsigned i = 0; i < 64; i++)
            turn[i] = (uint8_t)(o.head + i);
        o.turn = _mm512_load_si512(turn);
    }
    uint64_t acc[8];
    znn_hash_secrets secrets;
    if (o.hashed) {
        const uint8_t *secret = znn_hasher_take(fused->hasher, acc);
        znn_hash_block_begin(&o.hash, &secrets, secret, acc);
    }

    size_t made = 0, sure = 0, position = 0;
    for (; made < units; made++, sure--, position += rows * LANES) {
        if (sure == 0) {
            d->next = s.next;
            sure = znn_narrow_decoder_ready(d) / rows;
            s.next = d->next; /* which may have moved to the tail's copy */
            if (sure == 0)
                break;
        }
        uint8_t *into = ring + made % RING * unit_size;
        if (made < LAG) {
            run_unit(l, rows, &t, &s, into, &o, NULL);
        } else {
            if (made == LAG)
                o.next = _mm512_load_si512(ring);
            run_unit(l, rows, &t, &s, into, &o, ring + (made - LAG) % RING * unit_size);
            o.to += unit_size;
        }
        if (patches->pending && patches->position < position + rows * LANES)
            znn_patches_apply(patches, fused->fields, into, position, rows * LANES);
        if (made % RING == 0)
            _mm512_store_si512(ring + RING * unit_size, _mm512_load_si512(ring));
        if (made == 0)
            memcpy(fused->dst, ring, o.head);
    }
    /* What is still in the ring. The last unit has no neighbour: all but its last bytes. */
    for (size_t u = made > LAG ? made - LAG : 0; u < made; u++) {
        const uint8_t *from = ring + u % RING * unit_size;
        o.next = _mm512_load_si512(from);
        if (u + 1 < made) {
            for (unsigned v = 0; v < unit_size / 64; v++)
                put_vector(&o, from, v);
            o.to += unit_size;
        } else {
            memcpy(o.to, from + o.head, unit_size - o.head);
            for (unsigned v = 0; v < unit_size / 64; v++)
                hash_vector(&o, _mm512_load_si512(from + 64 * v), v);
        }
    }
    d->next = s.next;
    d->escaped = s.escaped;
    _mm512_store_si512(d->low, s.low0);
    _mm512_store_si512(d->low + 64, s.low1);
    _mm512_store_si512(d->low + 128, s.low2);
    _mm512_store_si512(d->low + 192, s.low3);
    _mm512_store_si512(d->high, s.high0);
    _mm512_store_si512(d->high + 64, s.high1);
    _mm512_store_si512(d->high + 128, s.high2);
    _mm512_store_si512(d->high + 192, s.high3);
    memcpy(fused->planes, s.planes, sizeof s.planes);
    if (o.hashed && made) {
        _mm512_storeu_si512(acc, o.hash.products);
        znn_hasher_resume(fused->hasher, acc, made * unit_size);
    }
    fused->dst += made * unit_size;
    return made * rows * VECTORS;
}

size_t znn_fused_decode_avx512(znn_fused *fused, size_t groups)
{
    const znn_fields *f = fused->fields;
    const size_t unit_groups = VECTORS * (f->element_size >= 4 ? 1 : 4 / f->element_size);
    /* The encoder spreads the slots where the symbol is in one byte; other tables, and
     * those with a symbol of more than half of the elements, are rare. */
    if (fused->decoder->table->spread == znn_layout_of(f).two || fused->decoder->table->most > 127)
        return 0;
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
