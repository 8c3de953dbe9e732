/* Elements as numbers, and the cuts of them that scalar loops know at compile time. */
#ifndef ZNN_ELEMENTS_H
#define ZNN_ELEMENTS_H

#include "chunk/fields.h"

static inline uint64_t znn_load_element(const uint8_t *p, unsigned size)
{
    switch (size) {
    case 1: return *p;
    case 2: return znn_load16(p);
    case 4: return znn_load32(p);
    default: return znn_load64(p);
    }
}

static inline void znn_store_element(uint8_t *p, unsigned size, uint64_t v)
{
    switch (size) {
    case 1: *p = (uint8_t)v; break;
    case 2: znn_store16(p, (uint16_t)v); break;
    case 4: znn_store32(p, (uint32_t)v); break;
    default: znn_store64(p, v); break;
    }
}

/* The element at position 16 j + i of a group, i below 16, of elements of `size` bytes. */
static inline size_t znn_element_of(unsigned size, unsigned j, unsigned i)
{
    const unsigned run = 16 / size;
    return ZNN_GROUP / size * (i / run) + run * j + i % run;
}

/* do_cut(element size, byte planes) for the cuts that matter. */
#define ZNN_CUTS(do_cut) do_cut(1, 0) do_cut(2, 0) do_cut(2, 1) do_cut(4, 0) do_cut(4, 1) do_cut(4, 2) do_cut(8, 6)

#endif
