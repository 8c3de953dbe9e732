#include "chunk/elements.h"

unsigned znn_exponent_bits(znn_dtype dtype)
{
    switch (dtype) {
    case ZNN_F8_E4M3: return 4;
    case ZNN_F8_E5M2: return 5;
    case ZNN_F16: return 5;
    case ZNN_BF16: return 8;
    case ZNN_F32: return 8;
    case ZNN_F64: return 11;
    default: return 0;
    }
}

bool znn_fields_init(znn_fields *f, unsigned element_size, unsigned drop, unsigned symbol_bits)
{
    unsigned width = 8 * element_size;
    if ((element_size != 1 && element_size != 2 && element_size != 4 && element_size != 8) || symbol_bits < 1 ||
        symbol_bits > 15 || drop > width || symbol_bits + 1 > width - drop)
        return false;
    unsigned mantissa = width - drop - 1 - symbol_bits; /* what of it is not in the symbol */
    f->element_size = element_size;
    f->drop = drop;
    f->bits = width - drop;
    f->symbol_bits = symbol_bits;
    f->byte_planes = mantissa / 8;
    f->top_bits = mantissa % 8 + 1;
    return true;
}

/* One body for every element size and number of byte planes, which the callers
 * give as constants. Eight positions at a time: their tops fill whole bytes. */
static inline __attribute__((always_inline)) void split(const znn_fields *f, const uint8_t *src, size_t groups,
                                                        uint16_t *symbols, uint8_t *const planes[ZNN_PLANES_MAX],
                                                        const unsigned size, const unsigned bytes,
                                                        const unsigned top_bits)
{
    const unsigned drop = f->drop;
    const unsigned top_shift = drop + 8 * bytes, symbol_shift = top_shift + top_bits - 1;
    const unsigned sign_shift = drop + f->bits - top_bits;
    const uint32_t symbol_mask = (1u << f->symbol_bits) - 1, top_mask = (1u << (top_bits - 1)) - 1;
    const uint32_t sign_mask = 1u << (top_bits - 1);
    uint8_t *top = planes[ZNN_TOP_PLANE];
    for (size_t g = 0; g < groups; g++, src += ZNN_GROUP * size) {
        for (unsigned h = 0; h < ZNN_GROUP / 8; h++, top += top_bits) {
            const unsigned j = 8 * h;
            const uint8_t *from = src + znn_element_of(size, h / 2, h % 2 * 8) * size;
            uint64_t word = 0;
#pragma GCC unroll 8
            for (unsigned k = 0; k < 8; k++) {
                const uint64_t v = znn_load_element(from + znn_element_of(size, 0, k) * size, size);
                symbols[64 * g + j + k] = (uint16_t)(v >> symbol_shift & symbol_mask);
                const uint64_t t = (v >> top_shift & top_mask) | (v >> sign_shift & sign_mask);
                word |= t << top_bits * k;
                for (unsigned p = 0; p < bytes; p++)
                    planes[p][64 * g + j + k] = (uint8_t)(v >> (drop + 8 * p));
            }
            uint8_t packed[8];
            znn_store64(packed, word);
            for (unsigned i = 0; i < top_bits; i++)
                top[i] = packed[i];
        }
    }
}

void znn_fields_split(const znn_fields *f, const uint8_t *src, size_t groups, uint16_t *symbols,
                      uint8_t *const planes[ZNN_PLANES_MAX])
{
#define SPLIT(size, bytes)                                                                                             \
    if (f->element_size == size && f->byte_planes == bytes) {                                                          \
        if (f->top_bits == 7)                                                                                          \
            split(f, src, groups, symbols, planes, size, bytes, 7);                                                    \
        else                                                                                                           \
            split(f, src, groups, symbols, planes, size, bytes, f->top_bits);                                          \
        return;                                                                                                        \
    }
    ZNN_CUTS(SPLIT)
#undef SPLIT
    split(f, src, groups, symbols, planes, f->element_size, f->byte_planes, f->top_bits);
}

void znn_fields_tables(znn_join_tables *t, const znn_fields *f, const znn_symbols *by_index,
                       const uint16_t *by_code)
{
    const unsigned top_shift = f->drop + 8 * f->byte_planes, symbol_shift = top_shift + f->top_bits - 1;
    const unsigned sign_shift = f->drop + f->bits - 1, sign = 1u << (f->top_bits - 1);
    for (unsigned i = 0; i < 1u << f->top_bits; i++)
        t->top[i] = (uint64_t)(i & (sign - 1)) << top_shift | (uint64_t)(i & sign ? 1 : 0) << sign_shift;
    const unsigned mask = (1u << f->symbol_bits) - 1;
    for (unsigned i = 0; i < 256; i++)
        t->symbol[i] = (uint64_t)((by_index ? by_index->of[i % 64] : by_code[i]) & mask) << symbol_shift;
}

static inline __attribute__((always_inline)) void join(const znn_fields *f, const znn_join_tables *t, uint8_t *dst,
                                                       size_t groups, const uint8_t *codes,
                                                       const uint8_t *const planes[ZNN_PLANES_MAX], const unsigned size,
                                                       const unsigned bytes, const unsigned top_bits)
{
    const unsigned top_mask = (1u << top_bits) - 1, drop = f->drop;
    const uint8_t *top = planes[ZNN_TOP_PLANE];
    for (size_t g = 0; g < groups; g++, dst += ZNN_GROUP * size) {
        for (unsigned h = 0; h < ZNN_GROUP / 8; h++, top += top_bits) {
            const unsigned j = 8 * h;
            uint8_t *to = dst + znn_element_of(size, h / 2, h % 2 * 8) * size;
            const uint64_t word = znn_load64(top);
#pragma GCC unroll 8
            for (unsigned k = 0; k < 8; k++) {
                uint64_t v = t->symbol[codes[64 * g + j + k]] | t->top[word >> top_bits * k & top_mask];
                for (unsigned p = 0; p < bytes; p++)
                    v |= (uint64_t)planes[p][64 * g + j + k] << (drop + 8 * p);
                znn_store_element(to + znn_element_of(size, 0, k) * size, size, v);
            }
        }
    }
}

void znn_fields_join(const znn_fields *f, const znn_join_tables *t, uint8_t *dst, size_t groups, const uint8_t *codes,
                     const uint8_t *const planes[ZNN_PLANES_MAX])
{
#define JOIN(size, bytes)                                                                                              \
    if (f->element_size == size && f->byte_planes == bytes) {                                                          \
        if (f->top_bits == 7)                                                                                          \
            join(f, t, dst, groups, codes, planes, size, bytes, 7);                                                    \
        else                                                                                                           \
            join(f, t, dst, groups, codes, planes, size, bytes, f->top_bits);                                          \
        return;                                                                                                        \
    }
    ZNN_CUTS(JOIN)
#undef JOIN
    join(f, t, dst, groups, codes, planes, f->element_size, f->byte_planes, f->top_bits);
}

void znn_fields_patch(const znn_fields *f, uint8_t *dst, size_t index, unsigned symbol)
{
    uint8_t *p = dst + index * f->element_size;
    const unsigned shift = f->drop + 8 * f->byte_planes + f->top_bits - 1;
    const uint64_t mask = ((UINT64_C(1) << f->symbol_bits) - 1) << shift;
    znn_store_element(p, f->element_size, (znn_load_element(p, f->element_size) & ~mask) | ((uint64_t)symbol << shift & mask));
}
