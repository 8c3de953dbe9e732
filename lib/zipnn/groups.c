#define LOOPS znn_groups_scalar
#include "zipnn/groups_loops.h"

#include "base/cpu.h"

static const znn_groups_loops *loops(void)
{
#if ZNN_X86
    switch (znn_cpu_isa()) {
    case ZNN_ISA_AVX512: return &znn_groups_avx512;
    case ZNN_ISA_AVX2: return &znn_groups_avx2;
    default: break;
    }
#endif
    return &znn_groups_scalar;
}

void znn_groups_split(uint8_t *const group[ZNN_ZIPNN_GROUPS_MAX], const uint8_t *src, size_t size, unsigned groups,
                      bool reorder)
{
    size_t whole = size / 4 * 4;
    switch (groups) {
    case 1: memcpy(group[0], src, size); return;
    case 2: loops()->split16(group[0], group[1], src, whole / 2, reorder); break;
    default: loops()->split32(group, src, whole / 4, reorder); break;
    }
    for (size_t i = whole; i < size; i++)
        group[i % groups][i / groups] = src[i];
}

void znn_groups_merge(uint8_t *dst, size_t size, const uint8_t *const group[ZNN_ZIPNN_GROUPS_MAX], unsigned groups,
                      bool reorder, bool large)
{
    size_t whole = size / 4 * 4;
    if (groups == 1) {
        if (group[0] != dst)
            znn_copy_out(dst, group[0], size, large);
        return;
    }
    if (whole && groups == 2) /* without a whole element, a group may be nowhere */
        loops()->merge16(dst, group[0], group[1], whole / 2, reorder, large);
    else if (whole)
        loops()->merge32(dst, group, whole / 4, reorder, large);
    for (size_t i = whole; i < size; i++)
        dst[i] = group[i % groups][i / groups];
}
