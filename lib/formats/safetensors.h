/* What the header of a safetensors file says about the bytes after it. */
#ifndef ZNN_SAFETENSORS_H
#define ZNN_SAFETENSORS_H

#include "base/base.h"

#define ZNN_SAFETENSORS_PREFIX 9 /* the header's size (u64), and its '{' */
#define ZNN_SAFETENSORS_HEADER_MAX ((uint64_t)8 << 20)

/* Content from the end of the entry before to `end` (from the begin of the file). */
typedef struct {
    uint64_t end;
    znn_dtype dtype;
} znn_safetensors_entry;

/* The bytes that the length and the header take if src (ZNN_SAFETENSORS_PREFIX
 * bytes at least) may begin a safetensors file, else 0. */
size_t znn_safetensors_header_size(const uint8_t *src, size_t available);

/* Parse the header, all of it at src. *entries, to be freed with znn_dealloc,
 * cover the file from its begin to the end of the last tensor without a gap:
 * the header, tensors, and what lies between them. ZNN_ERROR_FORMAT if it is no
 * valid header (duplicate names count once). */
znn_status znn_safetensors_parse(const uint8_t *src, size_t header_size, const znn_allocator *allocator,
                                 znn_safetensors_entry **entries, size_t *count);

/* The library's dtype for safetensors' name of one; ZNN_BYTES for packed types, scales, and those to come. */
znn_dtype znn_safetensors_dtype(const char *name);

/* Whether there are more values than a header has. Parsing takes some 60 bytes
 * for each, so that a header of nothing but tiny values would take 30 times its size. */
bool znn_safetensors_is_dense(const uint8_t *json, size_t n);

#endif
