/*
 * Elements as words: their upper 16 bits, which hold sign, symbol and the rest of the top. Passes over
 * arrays of them, so plain that a compiler makes what vectors it has of them. (Words are computed in words8.h's
 * types: of loops over 16 bits, some compilers make 32.)
 */
#ifndef ZNN_WORDS_H
#define ZNN_WORDS_H

#include "base/words8.h"
#include "chunk/elements.h"

#define ZNN_WORDS 256 /* at a time */
#define ZNN_WORDS_INLINE static inline __attribute__((always_inline))

/* True for layouts that are known here. Two bits or more of a word are below the symbol, free for a flag. */
static inline bool znn_words_known(const znn_fields *f)
{
#define KNOWN(size, bytes) || (f->element_size == size && f->byte_planes == bytes)
    return f->symbol_bits <= 13 && f->symbol_bits + f->top_bits <= 16 && (false ZNN_CUTS(KNOWN));
#undef KNOWN
}

/* A symbol where it stands in a word. */
static inline uint16_t znn_word_of(const znn_fields *f, unsigned symbol)
{
    return (uint16_t)((symbol & ((1u << f->symbol_bits) - 1)) << (15 - f->symbol_bits));
}

/* 8 packed tops, a byte each: halves come apart three times. */
ZNN_WORDS_INLINE uint64_t znn_tops_apart(uint64_t tops, unsigned bits)
{
    const uint64_t fours = (UINT64_C(1) << 4 * bits) - 1, twos = ((UINT64_C(1) << 2 * bits) - 1) * 0x100000001,
                   ones = ((UINT64_C(1) << bits) - 1) * 0x1000100010001;
    tops = (tops & fours) | tops >> 4 * bits << 32;
    tops = (tops & twos) | (tops & twos << 2 * bits) << (16 - 2 * bits);
    return (tops & ones) | (tops & ones << bits) << (8 - bits);
}

/* And together. */
ZNN_WORDS_INLINE uint64_t znn_tops_together(uint64_t tops, unsigned bits)
{
    const uint64_t fours = (UINT64_C(1) << 4 * bits) - 1, twos = ((UINT64_C(1) << 2 * bits) - 1) * 0x100000001,
                   ones = ((UINT64_C(1) << bits) - 1) * 0x1000100010001;
    tops = (tops & ones) | (tops >> (8 - bits) & ones << bits);
    tops = (tops & twos) | (tops >> (16 - 2 * bits) & twos << 2 * bits);
    return (tops & fours) | (tops >> (32 - 4 * bits) & fours << 4 * bits);
}

/* Of every 16 positions, the q-th 16 bytes are neighbours: where they are, i being the positions' number. */
ZNN_WORDS_INLINE size_t znn_words_place(size_t i, unsigned q, const unsigned size)
{
    return (i / 4 * ZNN_GROUP + znn_element_of(size, i % 4, 16 / size * q)) * size;
}

/* Put at most ZNN_WORDS elements together from words that hold symbols, and planes. */
ZNN_WORDS_INLINE void znn_words_join(const znn_fields *f, const uint16_t *symbols, uint8_t *dst, unsigned groups,
                                     const uint8_t *const planes[ZNN_PLANES_MAX], const unsigned size,
                                     const unsigned bytes)
{
    const unsigned bits = f->top_bits, drop = f->drop, count = groups * ZNN_GROUP;
    const uint16_t sign = (uint16_t)(1u << (bits - 1)), mantissa = (uint16_t)(sign - 1);
    const unsigned sign_shift = 16 - bits, mantissa_shift = sign_shift - f->symbol_bits;
    const uint8_t *top = planes[ZNN_TOP_PLANE];
    uint8_t tops[ZNN_WORDS];
    for (unsigned i = 0; i < count; i += 8, top += bits)
        znn_store64(tops + i, znn_tops_apart(znn_load64(top), bits));
    uint16_t words[ZNN_WORDS];
    uint8_t lanes[ZNN_WORDS * 8]; /* elements, in lane order */
    for (unsigned i = 0; i < count; i += 8) {
        const znn_words8 t = znn_words8_of(tops + i);
        znn_words8 word = znn_words8_load(symbols + i) | (t & mantissa) << mantissa_shift | (t & sign) << sign_shift;
        if (size == 2 && bytes)
            word |= znn_words8_of(planes[0] + i) << drop;
        if (size == 2 && ZNN_BIG_ENDIAN)
            word = word << 8 | word >> 8;
        if (size == 1)
            znn_words8_low(lanes + i, word >> 8);
        else
            znn_words8_store(words + i, word);
    }
    for (unsigned i = 0; i < count; i++) {
        if (size == 4) {
            uint32_t v = (uint32_t)words[i] << 16;
            for (unsigned p = 0; p < bytes; p++)
                v |= (uint32_t)planes[p][i] << (drop + 8 * p);
            znn_store32(lanes + 4 * i, v);
        }
        if (size == 8) {
            uint64_t v = (uint64_t)words[i] << 48;
            for (unsigned p = 0; p < bytes; p++)
                v |= (uint64_t)planes[p][i] << (drop + 8 * p);
            znn_store64(lanes + 8 * i, v);
        }
    }
    const uint8_t *const from = size == 2 ? (const uint8_t *)words : lanes;
    for (unsigned i = 0; i < count / 16; i++)
        for (unsigned q = 0; q < size; q++)
            memcpy(dst + znn_words_place(i, q, size), from + 16 * (i * size + q), 16);
}

/* Cut them: words in lane order, and planes. Of the top, 8 bytes beyond the end may be written. */
ZNN_WORDS_INLINE void znn_words_split(const znn_fields *f, const uint8_t *src, unsigned groups, uint16_t *words,
                                      uint8_t *const planes[ZNN_PLANES_MAX], const unsigned size, const unsigned bytes)
{
    const unsigned bits = f->top_bits, drop = f->drop, count = groups * ZNN_GROUP;
    const uint16_t sign = (uint16_t)(1u << (bits - 1)), mantissa = (uint16_t)(sign - 1);
    const unsigned sign_shift = 16 - bits, mantissa_shift = sign_shift - f->symbol_bits;
    _Alignas(16) uint8_t lanes[ZNN_WORDS * 8], tops[ZNN_WORDS];
    for (unsigned i = 0; i < count / 16; i++)
        for (unsigned q = 0; q < size; q++)
            memcpy(lanes + 16 * (i * size + q), src + znn_words_place(i, q, size), 16);
    for (unsigned i = 0; i < count; i++) {
        if (size == 4) {
            const uint32_t v = znn_load32(lanes + 4 * i);
            words[i] = (uint16_t)(v >> 16);
            for (unsigned p = 0; p < bytes; p++)
                planes[p][i] = (uint8_t)(v >> (drop + 8 * p));
        }
        if (size == 8) {
            const uint64_t v = znn_load64(lanes + 8 * i);
            words[i] = (uint16_t)(v >> 48);
            for (unsigned p = 0; p < bytes; p++)
                planes[p][i] = (uint8_t)(v >> (drop + 8 * p));
        }
    }
    for (unsigned i = 0; i < count; i += 8) {
        znn_words8 word;
        if (size == 1) {
            word = znn_words8_of(lanes + i) << 8;
        } else {
            memcpy(&word, size == 2 ? (const void *)(lanes + 2 * i) : words + i, sizeof word);
            if (size == 2 && ZNN_BIG_ENDIAN)
                word = word << 8 | word >> 8;
        }
        if (size < 4)
            znn_words8_store(words + i, word);
        if (size == 2 && bytes)
            znn_words8_low(planes[0] + i, word >> drop);
        znn_words8_low(tops + i, (word >> mantissa_shift & mantissa) | (word >> sign_shift & sign));
    }
    uint8_t *top = planes[ZNN_TOP_PLANE];
    for (unsigned i = 0; i < count; i += 8, top += bits)
        znn_store64(top, znn_tops_together(znn_load64(tops + i), bits));
}

#endif
