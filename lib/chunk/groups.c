/* Method `groups`: byte b of every element makes byte group b, and each group is
 * a plane of its own. Payload: the groups' methods (a byte each), the groups,
 * then what is left after the last whole element. */
#include "chunk/methods.h"

size_t znn_groups_encode(znn_chunk_coder *coder, uint8_t *dst, size_t limit, const uint8_t *src, size_t n,
                         unsigned element_size, int level)
{
    size_t elements = n / element_size, tail = n % element_size, at = element_size;
    if (elements < 64)
        return 0;
    for (unsigned b = 0; b < element_size; b++) {
        uint8_t *plane = coder->planes;
        for (size_t i = 0; i < elements; i++)
            plane[i] = src[i * element_size + b];
        znn_plane_method method;
        size_t size = znn_plane_encode(coder, dst + at, plane, elements, false, level, &method);
        if (method == ZNN_PLANE_RAW)
            memcpy(dst + at, plane, elements);
        dst[b] = (uint8_t)method;
        at += size;
    }
    memcpy(dst + at, src + n - tail, tail);
    return at + tail < limit ? at + tail : 0;
}

znn_status znn_groups_decode(znn_chunk_coder *coder, uint8_t *dst, size_t n, const uint8_t *src, size_t size,
                             unsigned element_size)
{
    size_t elements = n / element_size, tail = n % element_size, at = element_size;
    if (size < element_size || elements == 0)
        return ZNN_ERROR_FORMAT;
    for (unsigned b = 0; b < element_size; b++) {
        const uint8_t *plane;
        size_t used;
        if (src[b] > ZNN_PLANE_ZSTD)
            return ZNN_ERROR_UNSUPPORTED;
        if (!znn_plane_decode(coder, coder->planes, elements, src + at, size - at, (znn_plane_method)src[b], &plane,
                              &used))
            return ZNN_ERROR_FORMAT;
        at += used;
        for (size_t i = 0; i < elements; i++)
            dst[i * element_size + b] = plane[i];
    }
    if (size - at != tail)
        return ZNN_ERROR_FORMAT;
    memcpy(dst + n - tail, src + at, tail);
    return ZNN_OK;
}
