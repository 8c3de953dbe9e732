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

bool znn_fields_init(znn_fields *f, unsigned element_size, unsigned drop, unsigned symbol_bits, unsigned base)
{
    unsigned width = 8 * element_size;
    if ((element_size != 1 && element_size != 2 && element_size != 4 && element_size != 8) || symbol_bits < 1 ||
        symbol_bits > 16 || drop > width || symbol_bits + 1 > width - drop || base >> symbol_bits)
        return false;
    f->element_size = element_size;
    f->drop = drop;
    f->bits = width - drop;
    f->symbol_bits = symbol_bits;
    f->rest_bits = f->bits - symbol_bits;
    f->byte_planes = f->rest_bits / 8;
    f->packed_bits = f->rest_bits % 8;
    f->planes = f->byte_planes + (f->packed_bits != 0);
    f->base = base;
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

/* One body for every element size, which the callers give as a constant. */
static inline __attribute__((always_inline)) void split(const znn_fields *f, const uint8_t *src, size_t groups,
                                                        uint16_t *symbols16, uint8_t *const planes[ZNN_PLANES_MAX],
                                                        unsigned size)
{
    const unsigned rest_mantissa = f->rest_bits - 1, sign = f->bits - 1, bytes = f->byte_planes;
    const uint64_t symbol_mask = (UINT64_C(1) << f->symbol_bits) - 1;
    const uint64_t mantissa_mask = (UINT64_C(1) << rest_mantissa) - 1;
    for (size_t g = 0; g < groups; g++, src += ZNN_GROUP * size, symbols16 += ZNN_GROUP) {
        uint8_t top[ZNN_GROUP];
        for (unsigned j = 0; j < ZNN_GROUP; j++) {
            uint64_t v = load_element(src + (j % size * (ZNN_GROUP / size) + j / size) * size, size) >> f->drop;
            uint64_t rest = (v & mantissa_mask) << 1 | v >> sign;
            symbols16[j] = (uint16_t)(v >> rest_mantissa & symbol_mask);
            for (unsigned p = 0; p < bytes; p++)
                planes[p][g * ZNN_GROUP + j] = (uint8_t)(rest >> 8 * p);
            top[j] = (uint8_t)(bytes < 8 ? rest >> 8 * bytes : 0);
        }
        if (f->packed_bits) {
            uint8_t *out = planes[bytes] + g * 8 * f->packed_bits;
            for (unsigned j = 0; j < ZNN_GROUP; j += 8, out += f->packed_bits) {
                uint64_t word = 0;
                for (unsigned i = 0; i < 8; i++)
                    word |= (uint64_t)top[j + i] << f->packed_bits * i;
                for (unsigned i = 0; i < f->packed_bits; i++)
                    out[i] = (uint8_t)(word >> 8 * i);
            }
        }
    }
}

void znn_fields_split(const znn_fields *f, const uint8_t *src, size_t groups, uint16_t *symbols16,
                      uint8_t *const planes[ZNN_PLANES_MAX])
{
    switch (f->element_size) {
    case 1: split(f, src, groups, symbols16, planes, 1); break;
    case 2: split(f, src, groups, symbols16, planes, 2); break;
    case 4: split(f, src, groups, symbols16, planes, 4); break;
    default: split(f, src, groups, symbols16, planes, 8); break;
    }
}

static inline __attribute__((always_inline)) void join(const znn_fields *f, uint8_t *dst, size_t groups,
                                                       const uint8_t *symbols,
                                                       const uint8_t *const planes[ZNN_PLANES_MAX], unsigned size)
{
    const unsigned rest_mantissa = f->rest_bits - 1, sign = f->bits - 1, bytes = f->byte_planes;
    const uint64_t symbol_mask = (UINT64_C(1) << f->symbol_bits) - 1;
    const unsigned packed_mask = (1u << f->packed_bits) - 1;
    for (size_t g = 0; g < groups; g++, dst += ZNN_GROUP * size, symbols += ZNN_GROUP) {
        uint8_t top[ZNN_GROUP] = {0};
        if (f->packed_bits) {
            const uint8_t *in = planes[bytes] + g * 8 * f->packed_bits;
            for (unsigned j = 0; j < ZNN_GROUP; j += 8, in += f->packed_bits) {
                uint64_t word = 0;
                for (unsigned i = 0; i < f->packed_bits; i++)
                    word |= (uint64_t)in[i] << 8 * i;
                for (unsigned i = 0; i < 8; i++)
                    top[j + i] = (uint8_t)(word >> f->packed_bits * i & packed_mask);
            }
        }
        for (unsigned j = 0; j < ZNN_GROUP; j++) {
            uint64_t rest = bytes < 8 ? (uint64_t)top[j] << 8 * bytes : 0;
            for (unsigned p = 0; p < bytes; p++)
                rest |= (uint64_t)planes[p][g * ZNN_GROUP + j] << 8 * p;
            uint64_t v = (((uint64_t)symbols[j] + f->base) & symbol_mask) << rest_mantissa | rest >> 1 | rest << 63 >> 63
                                                                                                          << sign;
            store_element(dst + (j % size * (ZNN_GROUP / size) + j / size) * size, size, v << f->drop);
        }
    }
}

void znn_fields_join(const znn_fields *f, uint8_t *dst, size_t groups, const uint8_t *symbols,
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
    const unsigned shift = f->drop + f->rest_bits - 1;
    const uint64_t mask = ((UINT64_C(1) << f->symbol_bits) - 1) << shift;
    store_element(p, f->element_size, (load_element(p, f->element_size) & ~mask) | ((uint64_t)symbol << shift & mask));
}
