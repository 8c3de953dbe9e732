/* Inside of znn_zipnn_reader. */
#ifndef ZNN_ZIPNN_READER_H
#define ZNN_ZIPNN_READER_H

#include "zipnn/groups.h"
#include "zipnn/huff0.h"
#include "zipnn/stream.h"

typedef enum { ZNN_ZIPNN_MADE, ZNN_ZIPNN_COPY, ZNN_ZIPNN_STREAM } znn_zipnn_kind;

typedef struct {
    uint64_t content_offset;
    uint64_t stored_offset;
    const char *name;
    uint32_t dtype;
    uint32_t kind; /* znn_zipnn_kind */
} znn_zipnn_entry;

struct znn_zipnn_reader {
    znn_allocator allocator;
    const void *base;
    uint64_t base_size, memory_limit;
    const uint8_t *src; /* or NULL, and read */
    znn_read_fn read;
    void *opaque;
    uint64_t size;

    znn_zipnn_entry *parts; /* one more than `count`, which is where the content ends */
    uint64_t count, room;
    znn_zipnn_info info;
    znn_safetensors *file; /* of a safetensors file; has the names */
    char *made;            /* the header of its content, with the length before it */
    uint64_t made_size;

    /* The stream being read. */
    uint64_t current; /* its part; UINT64_MAX for none */
    znn_zipnn_header header;
    uint64_t tables;                         /* in the file */
    uint64_t group_at[ZNN_ZIPNN_GROUPS_MAX]; /* in the file */
    uint64_t group_size[ZNN_ZIPNN_GROUPS_MAX];
    znn_huff0_decoder *decoder;
    uint8_t *plane[2][ZNN_ZIPNN_GROUPS_MAX]; /* decoded groups of two chunks, when first needed */
    uint8_t *pieces[2];                      /* of two chunks, read from the file */
    uint64_t pieces_room[2];
    uint8_t *chunk; /* for one that is wanted in part */
    uint64_t chunk_room, chunk_part, chunk_index;
    bool large; /* more is being read than caches hold */
};

/* `size` bytes of the file at `offset`, in memory as they are or read to buffer. */
znn_status znn_zipnn_fetch(const znn_zipnn_reader *r, const uint8_t **data, uint64_t offset, size_t size, void *buffer);

/* Read the header of the stream at `offset`, which may go on for `left` bytes. */
znn_status znn_zipnn_fetch_header(const znn_zipnn_reader *r, znn_zipnn_header *header, uint64_t offset, uint64_t left);

/* Append a part, and move the content's end by content_size. */
znn_status znn_zipnn_add_part(znn_zipnn_reader *r, znn_zipnn_kind kind, const char *name, znn_dtype dtype,
                              uint64_t stored_offset, uint64_t content_size);

/* What the information about the first stream is. */
void znn_zipnn_describe(znn_zipnn_info *info, const znn_zipnn_header *header);

/* Fill in the parts of a safetensors file; ZNN_ERROR_FORMAT if it has no ZipNN streams. */
znn_status znn_zipnn_open_safetensors(znn_zipnn_reader *r);

#endif
