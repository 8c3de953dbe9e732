/*
 * fused.h without vectors: a symbol's bits are looked up by its slot, so no codes are written and
 * read again but to find the escapes, once a row.
 *
 * Safety: znn_narrow_decoder_ready promises what a row reads of the stream, escapes there are as many as
 * symbols, and tables have an entry for every byte.
 */
#include "chunk/fused.h"

#include "chunk/elements.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES 256
#define ROW_GROUPS (LANES / ZNN_GROUP)
#define HASHED 8192 /* bytes that are hashed at a time, still in the first-level cache */

typedef struct {
    struct {
        uint32_t freq, offset;
    } slots[256];
    uint64_t bits[256]; /* by slot; 0 for the escape */
    uint8_t codes[256];
    znn_join_tables join;
} tables;

static void tables_load(tables *t, const znn_fused *fused)
{
    const znn_narrow_table *n = fused->decoder->table;
    znn_fields_tables(&t->join, fused->fields, fused->symbols, 0);
    for (unsigned i = 0; i < 256; i++) {
        const uint8_t code = t->codes[i] = n->code_of_slot[i];
        t->slots[i].freq = n->freq[code % ZNN_NARROW_INDICES];
        t->slots[i].offset = n->offset_of_slot[i];
        t->bits[i] = code & ZNN_NARROW_ESCAPE ? 0 : t->join.symbol[code];
    }
}

/* The escaped symbols of a row at dst. */
static void put_escapes(const znn_fused *fused, const tables *t, const uint8_t *codes, uint8_t *dst)
{
    const unsigned size = fused->fields->element_size;
    for (unsigned i = 0; i < LANES; i += 8)
        for (uint64_t left = znn_load64(codes + i) & UINT64_C(0x8080808080808080); left; left &= left - 1) {
            const unsigned at = i + (unsigned)__builtin_ctzll(left) / 8;
            uint8_t *p = dst + znn_element_at(fused->fields, at) * size;
            znn_store_element(p, size, znn_load_element(p, size) | t->join.symbol[*fused->decoder->escaped++]);
        }
}

INLINE size_t run(znn_fused *fused, const size_t rows, const unsigned size, const unsigned bytes,
                  const unsigned top_bits)
{
    tables t;
    tables_load(&t, fused);
    znn_narrow_decoder *const d = fused->decoder;
    znn_patches *const patches = fused->patches;
    const unsigned drop = fused->fields->drop, mask = (1u << top_bits) - 1;
    const size_t row_size = (size_t)LANES * size;
    uint32_t x[LANES];
    for (unsigned l = 0; l < LANES; l++)
        x[l] = d->low[l] | (uint32_t)d->high[l] << 8;
    uint8_t codes[LANES], *dst = fused->dst, *hashed = dst;
    size_t made = 0, sure = 0;
    for (; made < rows; made++, sure--, dst += row_size) {
        if (sure == 0 && (sure = znn_narrow_decoder_ready(d)) == 0)
            break;
        const uint8_t *next = d->next;
        for (unsigned j = 0; j < LANES / 16; j++) {
            const uint8_t *top = fused->planes[ZNN_TOP_PLANE] + 2 * j * top_bits;
            const uint64_t tops[2] = {znn_load64(top), znn_load64(top + top_bits)};
            uint8_t *to = dst + (j / 4 * ZNN_GROUP + znn_element_of(size, j % 4, 0)) * size;
#pragma GCC unroll 16
            for (unsigned i = 0; i < 16; i++) {
                const unsigned l = 16 * j + i, slot = x[l] & 255;
                x[l] = znn_narrow_refilled(t.slots[slot].freq * (x[l] >> 8) + t.slots[slot].offset, &next);
                codes[l] = t.codes[slot];
                uint64_t v = t.bits[slot] | t.join.top[tops[i / 8] >> top_bits * (i % 8) & mask];
                for (unsigned p = 0; p < bytes; p++)
                    v |= (uint64_t)fused->planes[p][l] << (drop + 8 * p);
                znn_store_element(to + znn_element_of(size, 0, i) * size, size, v);
            }
        }
        d->next = next;
        for (unsigned p = 0; p < bytes; p++)
            fused->planes[p] += LANES;
        fused->planes[ZNN_TOP_PLANE] += LANES / 8 * top_bits;
        put_escapes(fused, &t, codes, dst);
        if (patches->pending && patches->position < (made + 1) * LANES)
            znn_patches_apply(patches, fused->fields, dst, made * LANES, LANES);
        if (fused->hasher && (size_t)(dst + row_size - hashed) >= HASHED) {
            znn_hasher_update(fused->hasher, hashed, (size_t)(dst + row_size - hashed));
            hashed = dst + row_size;
        }
    }
    if (fused->hasher)
        znn_hasher_update(fused->hasher, hashed, (size_t)(dst - hashed));
    for (unsigned l = 0; l < LANES; l++) {
        d->low[l] = (uint8_t)x[l];
        d->high[l] = (uint8_t)(x[l] >> 8);
    }
    fused->dst = dst;
    return made * ROW_GROUPS;
}

size_t znn_fused_decode_scalar(znn_fused *fused, size_t groups)
{
    const znn_fields *f = fused->fields;
    const size_t rows = groups / ROW_GROUPS;
    /* with the top bits that the encoder makes of each, known to the compiler */
#define RUN(size, bytes)                                                                                               \
    if (f->element_size == size && f->byte_planes == bytes) {                                                          \
        const unsigned few = size == 1 ? 2 : bytes == 1 ? 1 : 8;                                                       \
        return f->top_bits == few ? run(fused, rows, size, bytes, few)                                                 \
               : f->top_bits == 7 ? run(fused, rows, size, bytes, 7)                                                   \
                                  : run(fused, rows, size, bytes, f->top_bits);                                        \
    }
    ZNN_CUTS(RUN)
#undef RUN
    return 0;
}
