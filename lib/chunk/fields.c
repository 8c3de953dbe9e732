#include "chunk/fields.h"

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

static inline uint64_t load_element(const uint8_t *p, unsigned size)
{
    switch (size) {
    case 1: return *p;
    case 2: return znn_load16(p);
    case 4: return znn_load32(p);
    default: return znn_load64(p);
    }
}

static inline void store_element(uint8_t *p, unsigned size, uint64_t v)
{
    switch (size) {
    case 1: *p = (uint8_t)v; break;
    case 2: znn_store16(p, (uint16_t)v); break;
    case 4: znn_store32(p, (uint32_t)v); break;
    default: znn_store64(p, v); break;
    }
}

/* One body for every element size, which the callers give as a constant. Eight
 * positions at a time: they are `runs` runs of neighbouring elements. */
static inline __attribute__((always_inline)) void split(const znn_fields *f, const uint8_t *src, size_t groups,
                                                        uint16_t *symbols, uint8_t *const planes[ZNN_PLANES_MAX],
                                                        const unsigned size)
{
    const unsigned run = 16 / size, bytes = f->byte_planes, top_bits = f->top_bits;
    const unsigned top_shift = f->drop + 8 * bytes, symbol_shift = top_shift + top_bits - 1;
    const unsigned sign_shift = f->drop + f->bits - 1;
    const uint32_t symbol_mask = (1u << f->symbol_bits) - 1, top_mask = (1u << (top_bits - 1)) - 1;
    uint8_t *top = planes[ZNN_TOP_PLANE];
    for (size_t g = 0; g < groups; g++, src += ZNN_GROUP * size) {
        for (unsigned j = 0; j < ZNN_GROUP; j += 8, top += top_bits) {
            uint64_t word = 0;
            for (unsigned k = 0; k < 8; k++) {
                const unsigned i = j % 16 + k;
                const size_t at = ZNN_GROUP / size * (i / run) + run * (j / 16) + i % run;
                const uint64_t v = load_element(src + at * size, size);
                symbols[64 * g + j + k] = (uint16_t)(v >> symbol_shift & symbol_mask);
                uint64_t t = (v >> top_shift & top_mask) | (v >> sign_shift & 1) << (top_bits - 1);
                word |= t << top_bits * k;
                for (unsigned p = 0; p < bytes; p++)
                    planes[p][64 * g + j + k] = (uint8_t)(v >> (f->drop + 8 * p));
            }
            for (unsigned i = 0; i < top_bits; i++)
                top[i] = (uint8_t)(word >> 8 * i);
        }
    }
}

void znn_fields_split(const znn_fields *f, const uint8_t *src, size_t groups, uint16_t *symbols,
                      uint8_t *const planes[ZNN_PLANES_MAX])
{
    switch (f->element_size) {
    case 1: split(f, src, groups, symbols, planes, 1); break;
    case 2: split(f, src, groups, symbols, planes, 2); break;
    case 4: split(f, src, groups, symbols, planes, 4); break;
    default: split(f, src, groups, symbols, planes, 8); break;
    }
}

static inline __attribute__((always_inline)) void join(const znn_fields *f, uint8_t *dst, size_t groups,
                                                       const uint16_t *symbols,
                                                       const uint8_t *const planes[ZNN_PLANES_MAX], const unsigned size)
{
    const unsigned run = 16 / size, bytes = f->byte_planes, top_bits = f->top_bits;
    const unsigned top_shift = f->drop + 8 * bytes, symbol_shift = top_shift + top_bits - 1;
    const unsigned sign_shift = f->drop + f->bits - 1;
    const uint32_t symbol_mask = (1u << f->symbol_bits) - 1, top_mask = (1u << (top_bits - 1)) - 1;
    const uint8_t *top = planes[ZNN_TOP_PLANE];
    for (size_t g = 0; g < groups; g++, dst += ZNN_GROUP * size) {
        for (unsigned j = 0; j < ZNN_GROUP; j += 8, top += top_bits) {
            uint64_t word = 0;
            for (unsigned i = 0; i < top_bits; i++)
                word |= (uint64_t)top[i] << 8 * i;
            for (unsigned k = 0; k < 8; k++) {
                const unsigned i = j % 16 + k;
                const size_t at = ZNN_GROUP / size * (i / run) + run * (j / 16) + i % run;
                const uint64_t t = word >> top_bits * k;
                uint64_t v = (t & top_mask) << top_shift | (t >> (top_bits - 1) & 1) << sign_shift |
                             (uint64_t)(symbols[64 * g + j + k] & symbol_mask) << symbol_shift;
                for (unsigned p = 0; p < bytes; p++)
                    v |= (uint64_t)planes[p][64 * g + j + k] << (f->drop + 8 * p);
                store_element(dst + at * size, size, v);
            }
        }
    }
}

void znn_fields_join(const znn_fields *f, uint8_t *dst, size_t groups, const uint16_t *symbols,
                     const uint8_t *const planes[ZNN_PLANES_MAX])
{
    switch (f->element_size) {
    case 1: join(f, dst, groups, symbols, planes, 1); break;
    case 2: join(f, dst, groups, symbols, planes, 2); break;
    case 4: join(f, dst, groups, symbols, planes, 4); break;
    default: join(f, dst, groups, symbols, planes, 8); break;
    }
}

void znn_fields_patch(const znn_fields *f, uint8_t *dst, size_t index, unsigned symbol)
{
    uint8_t *p = dst + index * f->element_size;
    const unsigned shift = f->drop + 8 * f->byte_planes + f->top_bits - 1;
    const uint64_t mask = ((UINT64_C(1) << f->symbol_bits) - 1) << shift;
    store_element(p, f->element_size, (load_element(p, f->element_size) & ~mask) | ((uint64_t)symbol << shift & mask));
}
