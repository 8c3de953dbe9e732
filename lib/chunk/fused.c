/*
 * fused.h without vector code of its own: the narrow coder's rows give words with the symbols in place
 * (narrow_rows.h), which are put together with the planes while they are in the cache (words.h).
 *
 * Safety: znn_narrow_decoder_ready promises what a row reads of the stream, escapes there are as many as
 * symbols, and tables have an entry for every byte, or take it modulo their size.
 */
#include "chunk/fused.h"

#include "chunk/words.h"
#include "entropy/narrow_rows.h"

#define LANES ZNN_WORDS
#define HASHED 8192 /* bytes that are hashed at a time, still in the first-level cache */

ZNN_ROW_INLINE size_t run(znn_fused *fused, const size_t rows, const unsigned size, const unsigned bytes)
{
    const znn_fields *const f = fused->fields;
    znn_narrow_decoder *const d = fused->decoder;
    znn_patches *const patches = fused->patches;
    const size_t row_size = (size_t)LANES * size;
    uint16_t value[ZNN_NARROW_INDICES];
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++)
        value[i] = znn_word_of(f, fused->symbols->of[i]);
    znn_narrow_rows r;
    znn_narrow_rows_begin(&r, d, value);
    uint8_t *dst = fused->dst, *hashed = dst;
    size_t made = 0, sure = 0;
    for (; made < rows; made++, sure--, dst += row_size) {
        if (sure == 0 && (sure = znn_narrow_decoder_ready(d)) == 0)
            break;
        znn_narrow_rows_next(&r, d, LANES, value);
        znn_words_join(f, r.values, dst, LANES / ZNN_GROUP, fused->planes, size, bytes);
        for (unsigned p = 0; p < bytes; p++)
            fused->planes[p] += LANES;
        fused->planes[ZNN_TOP_PLANE] += LANES / 8 * f->top_bits;
        if (patches->pending && patches->position < (made + 1) * LANES)
            znn_patches_apply(patches, f, dst, made * LANES, LANES);
        if (fused->hasher && (size_t)(dst + row_size - hashed) >= HASHED) {
            znn_hasher_update(fused->hasher, hashed, (size_t)(dst + row_size - hashed));
            hashed = dst + row_size;
        }
    }
    if (fused->hasher)
        znn_hasher_update(fused->hasher, hashed, (size_t)(dst - hashed));
    znn_narrow_rows_end(&r, d);
    fused->dst = dst;
    return made * (LANES / ZNN_GROUP);
}

size_t znn_fused_decode_scalar(znn_fused *fused, size_t groups)
{
    const znn_fields *f = fused->fields;
    const size_t rows = groups / (LANES / ZNN_GROUP);
#define RUN(size, bytes)                                                                                               \
    if (f->element_size == size && f->byte_planes == bytes)                                                            \
        return run(fused, rows, size, bytes);
    if (znn_words_known(f)) {
        ZNN_CUTS(RUN)
    }
#undef RUN
    return 0;
}
