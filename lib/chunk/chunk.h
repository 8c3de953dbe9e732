/*
 * One chunk: a run of content of one dtype, coded without reference to any
 * other chunk. This room chooses the method, encodes and decodes; the frame
 * room above it knows where chunks lie and writes their headers.
 */
#ifndef ZNN_CHUNK_H
#define ZNN_CHUNK_H

#include "base/base.h"

#define ZNN_CHUNK_LOG_MIN 16
#define ZNN_CHUNK_LOG_MAX 22

/* What the frame keeps of a chunk beside its payload. */
typedef struct {
    uint32_t content_size; /* bytes; 1 .. 1 << chunk_log */
    uint32_t stored_size;  /* bytes of payload; at most content_size */
    uint64_t checksum;     /* XXH3-64 (seed 0) of the content; 0 without checksums */
    uint8_t dtype;
    uint8_t method;
} znn_chunk;

/* Working memory of one thread, for chunks of at most `chunk_max` bytes.
 * for_encoding: 1 to encode, 0 to decode. NULL if memory fails. */
typedef struct znn_chunk_coder znn_chunk_coder;
znn_chunk_coder *znn_chunk_coder_new(size_t chunk_max, int for_encoding, const znn_allocator *allocator);
void znn_chunk_coder_free(znn_chunk_coder *coder);

/* log2 of the chunk size for a level. */
unsigned znn_chunk_log_for_level(int level);

/* Bytes of room that dst must have to encode n bytes of content. The payload
 * itself is never larger than n. */
size_t znn_chunk_encode_room(size_t n);

/* Encode src[0, n) as dtype (not AUTO) to dst; fills in *chunk. n may be any
 * size from 1 to chunk_max, whole elements or not. */
znn_status znn_chunk_encode(znn_chunk_coder *coder, uint8_t *dst, const uint8_t *src, size_t n, znn_dtype dtype,
                            int level, bool checksum, znn_chunk *chunk);

/* Decode the payload (chunk->stored_size bytes) to dst (chunk->content_size
 * bytes). `readable` bytes may be read from payload on, at least stored_size:
 * more than 64 beyond the payload saves a copy. `large` says that the whole
 * output is far larger than the caches, so that stores may bypass them.
 * Verifies the checksum if `verify`. Any payload is safe. */
znn_status znn_chunk_decode(znn_chunk_coder *coder, uint8_t *dst, const uint8_t *payload, size_t readable,
                            const znn_chunk *chunk, bool verify, bool large);

#endif
