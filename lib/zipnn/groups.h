/* Chunks and their byte groups: group b holds bytes b, b + G, b + 2G ... */
#ifndef ZNN_ZIPNN_GROUPS_H
#define ZNN_ZIPNN_GROUPS_H

#include "base/base.h"

#define ZNN_ZIPNN_GROUPS_MAX 4

/* The size of group b, of a chunk of `size` bytes. */
static inline size_t znn_group_size(size_t size, unsigned groups, unsigned b)
{
    return size / groups + (b < size % groups);
}

/* `reorder`: the exponent of each number goes to its top byte and the sign
 * below it, in whole words of 32 bits; what is left over stays. One group may be
 * where it is merged to. `large`: more is written at once than caches hold. */
void znn_groups_split(uint8_t *const group[ZNN_ZIPNN_GROUPS_MAX], const uint8_t *src, size_t size, unsigned groups,
                      bool reorder);
void znn_groups_merge(uint8_t *dst, size_t size, const uint8_t *const group[ZNN_ZIPNN_GROUPS_MAX], unsigned groups,
                      bool reorder, bool large);

/* The inner loops over n numbers, once for each instruction set. */
typedef struct {
    void (*split16)(uint8_t *low, uint8_t *high, const uint8_t *src, size_t n, bool reorder);
    void (*split32)(uint8_t *const group[], const uint8_t *src, size_t n, bool reorder);
    void (*merge16)(uint8_t *dst, const uint8_t *low, const uint8_t *high, size_t n, bool reorder, bool large);
    void (*merge32)(uint8_t *dst, const uint8_t *const group[], size_t n, bool reorder, bool large);
} znn_groups_loops;
extern const znn_groups_loops znn_groups_scalar, znn_groups_avx2, znn_groups_avx512;

#endif
