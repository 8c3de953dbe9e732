/* Plain loops that the compiler turns into vectors (LOOPS names the result, if all of them are wanted).
 * On big-endian machines the loads and stores swap. */
#include "zipnn/groups.h"

/* s eeeeeeee mmmmmmm and eeeeeeee s mmmmmmm: a rotation of the top 9 bits. */
static inline uint16_t pack16(uint16_t v)
{
    return (uint16_t)((v & 0x7F80) << 1 | (v & 0x8000) >> 8 | (v & 0x7F));
}
static inline uint16_t unpack16(uint16_t v)
{
    return (uint16_t)((v & 0xFF00) >> 1 | (v & 0x80) << 8 | (v & 0x7F));
}
static inline uint32_t pack32(uint32_t v)
{
    return (v & 0x7F800000) << 1 | (v & 0x80000000) >> 8 | (v & 0x7FFFFF);
}
static inline uint32_t unpack32(uint32_t v)
{
    return (v & 0xFF000000) >> 1 | (v & 0x800000) << 8 | (v & 0x7FFFFF);
}

static void split16(uint8_t *restrict low, uint8_t *restrict high, const uint8_t *restrict src, size_t n, bool reorder)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v = znn_load16(src + 2 * i);
        v = reorder ? pack16(v) : v;
        low[i] = (uint8_t)v;
        high[i] = (uint8_t)(v >> 8);
    }
}

static void split32(uint8_t *const group[], const uint8_t *restrict src, size_t n, bool reorder)
{
    uint8_t *restrict a = group[0], *restrict b = group[1], *restrict c = group[2], *restrict d = group[3];
    for (size_t i = 0; i < n; i++) {
        uint32_t v = znn_load32(src + 4 * i);
        v = reorder ? pack32(v) : v;
        a[i] = (uint8_t)v;
        b[i] = (uint8_t)(v >> 8);
        c[i] = (uint8_t)(v >> 16);
        d[i] = (uint8_t)(v >> 24);
    }
}

static void merge16(uint8_t *restrict dst, const uint8_t *restrict low, const uint8_t *restrict high, size_t n,
                    bool reorder, bool large)
{
    (void)large;
    for (size_t i = 0; i < n; i++) {
        uint16_t v = (uint16_t)(low[i] | high[i] << 8);
        znn_store16(dst + 2 * i, reorder ? unpack16(v) : v);
    }
}

static void merge32(uint8_t *restrict dst, const uint8_t *const group[], size_t n, bool reorder,
                    bool large)
{
    (void)large;
    const uint8_t *restrict a = group[0], *restrict b = group[1], *restrict c = group[2], *restrict d = group[3];
    for (size_t i = 0; i < n; i++) {
        uint32_t v = (uint32_t)a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24;
        znn_store32(dst + 4 * i, reorder ? unpack32(v) : v);
    }
}

#ifdef LOOPS
const znn_groups_loops LOOPS = {split16, split32, merge16, merge32};
#endif
