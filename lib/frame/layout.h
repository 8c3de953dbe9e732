/* The bytes of a frame outside its chunks' payloads: docs/FORMAT.md, "Frames". */
#ifndef ZNN_LAYOUT_H
#define ZNN_LAYOUT_H

#include "base/hash.h"
#include "chunk/chunk.h"

#define ZNN_HEADER_SIZE 32
#define ZNN_EXTENSIONS_MAX 65536
#define ZNN_BLOCK_HEADER_SIZE 20
#define ZNN_END_HEADER_SIZE 8
#define ZNN_TABLE_ENTRY_SIZE 8
#define ZNN_TRAILER_SIZE 48
#define ZNN_BLOCK_CHUNK 1
#define ZNN_BLOCK_END 2

typedef struct {
    unsigned version;
    unsigned chunk_log;
    bool checksums;
    bool needs_base;
    uint64_t content_size;  /* ZNN_SIZE_UNKNOWN if unknown */
    uint32_t extensions;    /* bytes that follow the header */
} znn_header;

typedef struct {
    uint64_t chunks;
    uint64_t content_size;
    uint64_t checksum;
    uint64_t frame_size;
} znn_trailer;

bool znn_has_magic(const uint8_t *src, size_t size); /* of the bytes there are */
void znn_header_write(uint8_t dst[ZNN_HEADER_SIZE], const znn_header *header);
/* Reads the 32 bytes; the extensions and the checksum are checked by
 * znn_extensions_check, once they are there. */
znn_status znn_header_read(znn_header *header, const uint8_t src[ZNN_HEADER_SIZE]);
znn_status znn_extensions_check(const uint8_t *header_and_extensions, uint32_t extensions);

void znn_block_write(uint8_t dst[ZNN_BLOCK_HEADER_SIZE], const znn_chunk *chunk, bool starts_segment);
znn_status znn_block_read(znn_chunk *chunk, bool *starts_segment, const uint8_t src[ZNN_BLOCK_HEADER_SIZE],
                          const znn_header *header);

/* table_hash: of the end block's header and the table, in progress. */
void znn_trailer_write(uint8_t dst[ZNN_TRAILER_SIZE], const znn_trailer *trailer, znn_hasher *table_hash);
znn_status znn_trailer_read(znn_trailer *trailer, const uint8_t src[ZNN_TRAILER_SIZE]);
bool znn_trailer_check(const uint8_t src[ZNN_TRAILER_SIZE], znn_hasher *table_hash);

#endif
