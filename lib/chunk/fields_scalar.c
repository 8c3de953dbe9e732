#include "chunk/words.h"
#include "entropy/narrow_rows.h"

bool znn_fields_known_scalar(const znn_fields *f)
{
    return znn_words_known(f);
}

ZNN_WORDS_INLINE void join(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *indices,
                           const znn_symbols *symbols, const uint8_t *planes[ZNN_PLANES_MAX], const unsigned size,
                           const unsigned bytes)
{
    uint16_t by_index[ZNN_NARROW_INDICES], words[ZNN_WORDS];
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++)
        by_index[i] = znn_word_of(f, symbols->of[i]);
    for (size_t part; groups; groups -= part) {
        part = ZNN_MIN(groups, ZNN_WORDS / ZNN_GROUP);
        const size_t count = part * ZNN_GROUP;
        for (size_t i = 0; i < count; i++)
            words[i] = by_index[indices[i] % ZNN_NARROW_INDICES];
        znn_words_join(f, words, dst, (unsigned)part, planes, size, bytes);
        indices += count;
        dst += count * size;
        for (unsigned p = 0; p < bytes; p++)
            planes[p] += count;
        planes[ZNN_TOP_PLANE] += part * znn_plane_group_size(f, ZNN_TOP_PLANE);
    }
}

void znn_fields_join_scalar(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *indices,
                            const znn_symbols *symbols, const uint8_t *const planes[ZNN_PLANES_MAX])
{
    const uint8_t *at[ZNN_PLANES_MAX];
    memcpy(at, planes, sizeof at);
#define JOIN(size, bytes)                                                                                              \
    if (f->element_size == size && f->byte_planes == bytes)                                                            \
        join(f, dst, groups, indices, symbols, at, size, bytes);
    ZNN_CUTS(JOIN)
#undef JOIN
}

ZNN_WORDS_INLINE void split(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                            uint8_t *planes[ZNN_PLANES_MAX], const unsigned size, const unsigned bytes)
{
    const unsigned shift = 15 - f->symbol_bits;
    const uint16_t mask = (uint16_t)((1u << f->symbol_bits) - 1), index_mask = mask % ZNN_NARROW_INDICES;
    const uint16_t common = codes->common;
    znn_row_pairs by_index;
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++)
        znn_row_pairs_set(&by_index, i, codes->symbols->of[i], codes->codes[i]);
    uint16_t words[ZNN_WORDS], owners[ZNN_WORDS], found[ZNN_WORDS];
    uint8_t indices[ZNN_WORDS], flags[ZNN_WORDS];
    size_t first = 0;
    for (size_t part; groups; groups -= part) {
        part = ZNN_MIN(groups, ZNN_WORDS / ZNN_GROUP);
        const size_t count = part * ZNN_GROUP;
        znn_words_split(f, src, (unsigned)part, words, planes, size, bytes);
        for (size_t i = 0; i < count; i += 8)
            znn_words8_low(indices + i, znn_words8_load(words + i) >> shift & index_mask);
        znn_row_pairs_look_up(&by_index, indices, (unsigned)count, owners, found);
        znn_words8 any = {0};
        for (size_t i = 0; i < count; i += 8) {
            const znn_words8 symbol = znn_words8_load(words + i) >> shift & mask;
            const znn_words8 missing = (znn_words8)(symbol != znn_words8_load(owners + i));
            const znn_words8 code = znn_words8_load(found + i);
            any |= missing;
            znn_words8_low(codes->out + i, (code & ~missing) | (missing & common));
            znn_words8_low(flags + i, (code & ~missing) >> 7);
        }
        uint64_t halves[2];
        memcpy(halves, &any, sizeof halves);
        for (size_t i = 0; i < count && (halves[0] | halves[1]); i++) {
            const uint16_t symbol = words[i] >> shift & mask;
            if (symbol != owners[i])
                codes->missing[codes->missing_count++] = (uint64_t)(first + i) << 16 | symbol;
        }
        for (size_t i = 0; i < count; i += 64)
            for (uint64_t left = znn_row_bits64(flags + i, 0); left; left &= left - 1)
                *codes->escaped++ = indices[i + (size_t)__builtin_ctzll(left)];
        first += count;
        src += count * size;
        codes->out += count;
        for (unsigned p = 0; p < bytes; p++)
            planes[p] += count;
        planes[ZNN_TOP_PLANE] += part * znn_plane_group_size(f, ZNN_TOP_PLANE);
    }
}

void znn_fields_split_scalar(const znn_fields *f, const uint8_t *src, size_t groups, znn_split_codes *codes,
                             uint8_t *const planes[ZNN_PLANES_MAX])
{
    uint8_t *at[ZNN_PLANES_MAX];
    memcpy(at, planes, sizeof at);
#define SPLIT(size, bytes)                                                                                             \
    if (f->element_size == size && f->byte_planes == bytes)                                                            \
        split(f, src, groups, codes, at, size, bytes);
    ZNN_CUTS(SPLIT)
#undef SPLIT
}
