/*
 * The layouts of elements that vector code knows, with everything about them that a
 * compiler should: loops over bytes come apart, and what is not there costs nothing.
 */
#ifndef ZNN_LAYOUTS_H
#define ZNN_LAYOUTS_H

#include "chunk/fields.h"

/* What the compiler is to know of a layout. */
typedef struct {
    unsigned size;  /* bytes of an element */
    unsigned bytes; /* byte planes */
    bool two;       /* the symbol ends in the byte after the one where it begins */
    bool shifted;   /* the dropped bits are no whole bytes */
} znn_layout;

/* do_layout(a layout known here) for every one of them. */
#define ZNN_LAYOUTS(do_layout)                                                                                         \
    do_layout(1, 0, false, false)     /* FP8 */                                                                        \
        do_layout(2, 1, false, false) /* FP16 */                                                                       \
        do_layout(2, 0, true, false)  /* BF16 */                                                                       \
        do_layout(2, 0, true, true)   /* and what has fewer bits */                                                    \
        do_layout(4, 2, true, false)  /* FP32 */                                                                       \
        do_layout(4, 1, true, true)   /* that holds FP16 */                                                            \
        do_layout(4, 0, true, false)  /* that holds BF16 */                                                            \
        do_layout(4, 0, true, true)   /* and fewer bits */                                                             \
        do_layout(8, 6, true, false)  /* FP64 */

static inline znn_layout znn_layout_of(const znn_fields *f)
{
    return (znn_layout){.size = f->element_size,
                        .bytes = f->byte_planes,
                        .two = (f->bits - 1) / 8 == f->byte_planes + 1,
                        .shifted = f->drop % 8 != 0};
}

/* True if the layout's bytes are all there is between the dropped bits and the sign. */
static inline bool znn_layout_is(const znn_fields *f, znn_layout known)
{
    const znn_layout l = znn_layout_of(f);
    return l.size == known.size && l.bytes == known.bytes && l.two == known.two && l.shifted == known.shifted &&
           (f->bits - 1) / 8 == f->byte_planes + l.two;
}

static inline bool znn_layout_known(const znn_fields *f)
{
#define KNOWN(size, bytes, two, shifted) || znn_layout_is(f, (znn_layout){size, bytes, two, shifted})
    return false ZNN_LAYOUTS(KNOWN);
#undef KNOWN
}

/* The bytes of a symbol by its index: in `first`, and in `second`, if it ends there. */
static inline void znn_symbol_bytes(const znn_fields *f, const znn_symbols *symbols, uint8_t first[64],
                                    uint8_t second[64])
{
    for (unsigned i = 0; i < 64; i++) {
        const unsigned symbol = (unsigned)symbols->of[i] << (f->top_bits - 1);
        first[i] = (uint8_t)symbol;
        second[i] = (uint8_t)(symbol >> 8);
    }
}

#endif
