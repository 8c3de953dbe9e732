/* What every room may use: allocation, little-endian access, dtypes. */
#ifndef ZNN_BASE_H
#define ZNN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "znn.h"

#define ZNN_MIN(a, b) ((a) < (b) ? (a) : (b))
#define ZNN_MAX(a, b) ((a) > (b) ? (a) : (b))

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define ZNN_BIG_ENDIAN 1
#else
#define ZNN_BIG_ENDIAN 0
#endif

/* Unaligned little-endian access, on any machine. */
static inline uint16_t znn_load16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return ZNN_BIG_ENDIAN ? __builtin_bswap16(v) : v;
}
static inline uint32_t znn_load32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return ZNN_BIG_ENDIAN ? __builtin_bswap32(v) : v;
}
static inline uint64_t znn_load64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return ZNN_BIG_ENDIAN ? __builtin_bswap64(v) : v;
}
static inline void znn_store16(void *p, uint16_t v)
{
    v = ZNN_BIG_ENDIAN ? __builtin_bswap16(v) : v;
    memcpy(p, &v, 2);
}
static inline void znn_store32(void *p, uint32_t v)
{
    v = ZNN_BIG_ENDIAN ? __builtin_bswap32(v) : v;
    memcpy(p, &v, 4);
}
static inline void znn_store64(void *p, uint64_t v)
{
    v = ZNN_BIG_ENDIAN ? __builtin_bswap64(v) : v;
    memcpy(p, &v, 8);
}

/* The caller's allocator, or malloc's. Memory is 64-byte aligned and not
 * cleared; NULL on failure or when size is 0 bytes plus overflow. */
typedef struct {
    znn_alloc_fn alloc;
    znn_free_fn free;
    void *opaque;
} znn_allocator;

znn_allocator znn_allocator_from(const znn_options *options);
void *znn_alloc(const znn_allocator *allocator, size_t size);
void znn_dealloc(const znn_allocator *allocator, void *address); /* NULL is allowed */

/* A validated copy of the caller's options (NULL gives the defaults). */
znn_status znn_options_check(znn_options *copy, const znn_options *options);

#endif
