/* One ZipNN stream: its header, and where its parts lie (docs/ZIPNN.md). */
#ifndef ZNN_ZIPNN_STREAM_H
#define ZNN_ZIPNN_STREAM_H

#include "base/base.h"

#define ZNN_ZIPNN_FIXED 32 /* bytes of every header */
#define ZNN_ZIPNN_DIMENSIONS_MAX 255
#define ZNN_ZIPNN_HEADER_MAX (ZNN_ZIPNN_FIXED + 1 + 9 * ZNN_ZIPNN_DIMENSIONS_MAX)
#define ZNN_ZIPNN_LOOK (ZNN_ZIPNN_HEADER_MAX + 4) /* what reading a header may look at */
#define ZNN_ZIPNN_TABLE_ENTRY 9                   /* bytes a piece: its kind, and a 64-bit end */
#define ZNN_ZIPNN_FP8_CHUNK_MAX 131072            /* one group, which huff0 takes no more of */

/* Offsets in the header. */
enum {
    ZNN_ZIPNN_AT_VERSION = 2,
    ZNN_ZIPNN_AT_GROUPING = 5,
    ZNN_ZIPNN_AT_REORDER = 6,
    ZNN_ZIPNN_AT_METHOD = 7,
    ZNN_ZIPNN_AT_INPUT = 8,
    ZNN_ZIPNN_AT_DELTA = 9,
    ZNN_ZIPNN_AT_LOSSY = 10,
    ZNN_ZIPNN_AT_STREAMING = 13,
    ZNN_ZIPNN_AT_CHUNK = 14,
    ZNN_ZIPNN_AT_DTYPE = 15,
    ZNN_ZIPNN_AT_CONTENT_SIZE = 16,
    ZNN_ZIPNN_AT_STORED_SIZE = 24,
};

/* What follows the header: pieces of byte groups, or a whole frame of another format. */
typedef enum { ZNN_ZIPNN_PIECES, ZNN_ZIPNN_ZSTD, ZNN_ZIPNN_LZ4 } znn_zipnn_payload;

typedef struct {
    uint8_t version[3];
    uint8_t method, input, delta;
    unsigned groups; /* 1, 2 or 4 */
    bool reorder;
    uint64_t streaming; /* the streaming chunk; 0 if it is not one */
    uint64_t chunk;     /* content bytes */
    uint64_t chunks;
    znn_dtype dtype;
    znn_zipnn_payload payload;
    unsigned header_size;
    uint64_t content_size; /* of a whole frame: what the frame says, not yet believed */
    uint64_t stored_size;  /* header included */
    unsigned dimensions;
    uint64_t shape[ZNN_ZIPNN_DIMENSIONS_MAX];
} znn_zipnn_header;

/* Read the header at src, of which `looked` bytes are at hand: all of the
 * `left` bytes to the end of the file, or ZNN_ZIPNN_LOOK of them. On success
 * the tables and what they need lie within stored_size <= left. */
znn_status znn_zipnn_header_read(znn_zipnn_header *header, const uint8_t *src, size_t looked, uint64_t left);

/* ZipNN's number of a dtype, and how numbers of it are laid out. */
typedef struct {
    uint8_t code, grouping;
    unsigned groups;
    bool reorder;
} znn_zipnn_layout;
znn_zipnn_layout znn_zipnn_layout_of(znn_dtype dtype);

/* Decode a whole frame of zstd or LZ4 to exactly dst_size bytes. */
znn_status znn_zipnn_whole_decode(znn_zipnn_payload payload, uint8_t *dst, size_t dst_size, const uint8_t *src,
                                  size_t src_size);
/* What such a frame says of its content's size; false if it does not. */
bool znn_zipnn_whole_size(znn_zipnn_payload payload, const uint8_t *src, size_t looked, uint64_t *size);

#endif
