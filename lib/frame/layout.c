#include "frame/layout.h"

static const uint8_t magic[4] = {0x89, 'Z', 'N', 'N'};
static const uint8_t end_magic[4] = {'Z', 'N', 'N', 0x89};

#define FLAG_SIZE 1
#define FLAG_CHECKSUMS 2
#define FLAG_BASE 4

bool znn_has_magic(const uint8_t *src, size_t size)
{
    return memcmp(src, magic, ZNN_MIN(size, sizeof magic)) == 0;
}

void znn_header_write(uint8_t dst[ZNN_HEADER_SIZE], const znn_header *h)
{
    bool known = h->content_size != ZNN_SIZE_UNKNOWN;
    memset(dst, 0, ZNN_HEADER_SIZE);
    memcpy(dst, magic, 4);
    dst[4] = 1;
    dst[5] = (uint8_t)h->chunk_log;
    znn_store16(dst + 6, (uint16_t)((known ? FLAG_SIZE : 0) | (h->checksums ? FLAG_CHECKSUMS : 0)));
    znn_store64(dst + 8, h->content_size);
    znn_store32(dst + 28, (uint32_t)znn_hash(dst, 28));
}

znn_status znn_header_read(znn_header *h, const uint8_t src[ZNN_HEADER_SIZE])
{
    if (!znn_has_magic(src, ZNN_HEADER_SIZE))
        return ZNN_ERROR_FORMAT;
    if (src[4] != 1)
        return ZNN_ERROR_UNSUPPORTED;
    unsigned flags = znn_load16(src + 6);
    h->version = src[4];
    h->chunk_log = src[5];
    h->checksums = flags & FLAG_CHECKSUMS;
    h->needs_base = flags & FLAG_BASE;
    h->content_size = znn_load64(src + 8);
    h->extensions = znn_load32(src + 24);
    if (flags & ~(FLAG_SIZE | FLAG_CHECKSUMS | FLAG_BASE) || znn_load64(src + 16))
        return ZNN_ERROR_UNSUPPORTED;
    if (h->chunk_log < ZNN_CHUNK_LOG_MIN || h->chunk_log > ZNN_CHUNK_LOG_MAX || h->extensions > ZNN_EXTENSIONS_MAX ||
        !(flags & FLAG_SIZE) != (h->content_size == ZNN_SIZE_UNKNOWN))
        return ZNN_ERROR_FORMAT;
    return ZNN_OK;
}

znn_status znn_extensions_check(const uint8_t *p, uint32_t extensions)
{
    znn_hasher hasher;
    znn_hasher_begin(&hasher);
    znn_hasher_update(&hasher, p, 28);
    znn_hasher_update(&hasher, p + ZNN_HEADER_SIZE, extensions);
    if (!znn_checksum_fits(znn_load32(p + 28), (uint32_t)znn_hasher_end(&hasher)))
        return ZNN_ERROR_CHECKSUM;
    for (size_t at = 0; at < extensions;) {
        if (extensions - at < 4)
            return ZNN_ERROR_FORMAT;
        unsigned id = znn_load16(p + ZNN_HEADER_SIZE + at), size = znn_load16(p + ZNN_HEADER_SIZE + at + 2);
        if (extensions - at - 4 < size)
            return ZNN_ERROR_FORMAT;
        if (id & 1) /* must be understood; this version knows none */
            return ZNN_ERROR_UNSUPPORTED;
        at += 4 + (size_t)size;
    }
    return znn_load16(p + 6) & FLAG_BASE ? ZNN_ERROR_UNSUPPORTED : ZNN_OK;
}

void znn_block_write(uint8_t dst[ZNN_BLOCK_HEADER_SIZE], const znn_chunk *chunk, bool starts_segment)
{
    dst[0] = ZNN_BLOCK_CHUNK;
    dst[1] = chunk->dtype;
    dst[2] = chunk->method;
    dst[3] = starts_segment;
    znn_store32(dst + 4, chunk->content_size);
    znn_store32(dst + 8, chunk->stored_size);
    znn_store64(dst + 12, chunk->checksum);
}

znn_status znn_block_read(znn_chunk *chunk, bool *starts_segment, const uint8_t src[ZNN_BLOCK_HEADER_SIZE],
                          const znn_header *header)
{
    chunk->dtype = src[1];
    chunk->method = src[2];
    chunk->content_size = znn_load32(src + 4);
    chunk->stored_size = znn_load32(src + 8);
    chunk->checksum = znn_load64(src + 12);
    *starts_segment = src[3] & 1;
    if (src[0] != ZNN_BLOCK_CHUNK || src[3] > 1)
        return ZNN_ERROR_UNSUPPORTED;
    if (chunk->content_size == 0 || chunk->content_size > 1u << header->chunk_log ||
        chunk->stored_size > chunk->content_size || znn_dtype_size((znn_dtype)chunk->dtype) == 0)
        return ZNN_ERROR_FORMAT;
    return ZNN_OK;
}

void znn_trailer_write(uint8_t dst[ZNN_TRAILER_SIZE], const znn_trailer *t, znn_hasher *table_hash)
{
    memset(dst, 0, ZNN_TRAILER_SIZE);
    znn_store64(dst, t->chunks);
    znn_store64(dst + 8, t->content_size);
    znn_store64(dst + 16, t->checksum);
    znn_store64(dst + 24, t->frame_size);
    znn_hasher_update(table_hash, dst, 40);
    znn_store32(dst + 40, (uint32_t)znn_hasher_end(table_hash));
    memcpy(dst + 44, end_magic, 4);
}

znn_status znn_trailer_read(znn_trailer *t, const uint8_t src[ZNN_TRAILER_SIZE])
{
    if (memcmp(src + 44, end_magic, 4) != 0)
        return ZNN_ERROR_FORMAT;
    t->chunks = znn_load64(src);
    t->content_size = znn_load64(src + 8);
    t->checksum = znn_load64(src + 16);
    t->frame_size = znn_load64(src + 24);
    return znn_load64(src + 32) ? ZNN_ERROR_UNSUPPORTED : ZNN_OK;
}

bool znn_trailer_check(const uint8_t src[ZNN_TRAILER_SIZE], znn_hasher *table_hash)
{
    znn_hasher_update(table_hash, src, 40);
    return znn_checksum_fits(znn_load32(src + 40), (uint32_t)znn_hasher_end(table_hash));
}
