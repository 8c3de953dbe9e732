/* What the fuzz targets share. */
#ifndef ZNN_FUZZ_H
#define ZNN_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <znn.h>

#include "base/cpu.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Choices come from the input's first bytes, the material is what is left. */
typedef struct {
    const uint8_t *data;
    size_t size;
} fuzz_input;

static inline uint8_t fuzz_byte(fuzz_input *in)
{
    if (!in->size)
        return 0;
    in->size--;
    return *in->data++;
}

static inline uint16_t fuzz_u16(fuzz_input *in)
{
    uint16_t low = fuzz_byte(in);
    return (uint16_t)(low | fuzz_byte(in) << 8);
}

/* For choices that the input need not control one by one. */
static inline uint32_t fuzz_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

/* Go on with one of the instruction sets here, unless ZNN_ISA says with which. */
static inline void fuzz_use_isa(uint64_t choice)
{
    if (getenv("ZNN_ISA"))
        return;
    for (unsigned i = 0; i < 4; i++)
        if (znn_cpu_isa_use((znn_isa_level)((choice + i) % 4)))
            return;
}

/* At least one byte of memory, so that a sanitizer sees what is used beyond `size`. */
static inline void *fuzz_alloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    CHECK(p);
    return p;
}

/* A znn_read_fn over memory, the library knowing how much there is. */
static inline int fuzz_read(void *opaque, uint64_t offset, void *dst, size_t size)
{
    const fuzz_input *file = opaque;
    CHECK(offset <= file->size && size <= file->size - offset);
    if (size)
        memcpy(dst, file->data + offset, size);
    return 0;
}

#endif
