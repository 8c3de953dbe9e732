#include "chunk/chunk.h"

#include "chunk/methods.h"
#include "entropy/context.h"
#include "entropy/narrow.h"
#include "entropy/wide.h"

#define BLOCK_ROOM (64u << 10)

unsigned znn_chunk_log_for_level(int level)
{
    return level >= 7 ? 20 : 19;
}

size_t znn_chunk_encode_room(size_t n)
{
    return n + n / 8 + 4096;
}

znn_chunk_coder *znn_chunk_coder_new(size_t chunk_max, int for_encoding, const znn_allocator *allocator)
{
    znn_chunk_coder *c = znn_alloc(allocator, sizeof *c);
    if (!c)
        return NULL;
    memset(c, 0, sizeof *c);
    c->allocator = *allocator;
    c->chunk_max = chunk_max;
    size_t row = ZNN_NARROW_LANES_MAX + 64;
    c->symbols = znn_alloc(allocator, (for_encoding ? 0 : ZNN_CODES_ROOM) + chunk_max + row);
    /* Beside planes, the context coder's escapes: of 16-bit elements both planes may have to be decoded. */
    c->planes = znn_alloc(allocator, chunk_max + chunk_max / 2 / ZNN_CONTEXT_ESCAPES_SHARE + 8 * ZNN_GROUP * 8 +
                                         ZNN_CONTEXT_ESCAPES_BEYOND);
    bool ok = c->symbols && c->planes;
    if (for_encoding) {
        c->escaped = c->own_escaped = znn_alloc(allocator, chunk_max + row);
        c->symbols16 = znn_alloc(allocator, 2 * (chunk_max + row + ZNN_CONTEXT_RECORDS_ROOM));
        c->stream = znn_alloc(allocator, znn_wide_room(chunk_max));
        c->cctx = ZSTD_createCCtx_advanced((ZSTD_customMem){allocator->alloc, allocator->free, allocator->opaque});
        ok = ok && c->escaped && c->symbols16 && c->stream && c->cctx;
    } else {
        c->escaped = c->symbols + ZNN_CODES_ROOM;
        c->block = znn_alloc(allocator, BLOCK_ROOM);
        c->dctx = ZSTD_createDCtx_advanced((ZSTD_customMem){allocator->alloc, allocator->free, allocator->opaque});
        ok = ok && c->block && c->dctx;
    }
    if (ok)
        return c;
    znn_chunk_coder_free(c);
    return NULL;
}

void znn_chunk_coder_free(znn_chunk_coder *c)
{
    if (!c)
        return;
    ZSTD_freeCCtx(c->cctx);
    ZSTD_freeDCtx(c->dctx);
    znn_dealloc(&c->allocator, c->symbols);
    znn_dealloc(&c->allocator, c->symbols16);
    znn_dealloc(&c->allocator, c->planes);
    znn_dealloc(&c->allocator, c->own_escaped);
    znn_dealloc(&c->allocator, c->stream);
    znn_dealloc(&c->allocator, c->block);
    znn_dealloc(&c->allocator, c);
}

/* True if src is one element repeated. */
static bool is_repeated(const uint8_t *src, size_t n, unsigned element_size)
{
    return n % element_size == 0 && n > element_size && memcmp(src, src + element_size, n - element_size) == 0;
}

size_t znn_zstd_encode(znn_chunk_coder *coder, uint8_t *dst, size_t room, const uint8_t *src, size_t n, int level)
{
    ZSTD_CCtx *c = coder->cctx;
    ZSTD_CCtx_reset(c, ZSTD_reset_session_and_parameters);
    ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level >= 7 ? 19 : level >= 3 ? 3 : 1);
    if (level >= 7) { /* the tables that 19 would take are larger than a thread's share of memory */
        ZSTD_CCtx_setParameter(c, ZSTD_c_hashLog, 17);
        ZSTD_CCtx_setParameter(c, ZSTD_c_chainLog, 18);
    }
    const size_t size = ZSTD_compress2(c, dst, room, src, n);
    return ZSTD_isError(size) ? 0 : size;
}

znn_status znn_chunk_encode(znn_chunk_coder *coder, uint8_t *dst, const uint8_t *src, size_t n, znn_dtype dtype,
                            int level, bool checksum, znn_chunk *chunk)
{
    unsigned element_size = znn_dtype_size(dtype);
    if (n == 0 || n > coder->chunk_max || element_size == 0)
        return ZNN_ERROR_ARGUMENT;
    chunk->content_size = (uint32_t)n;
    chunk->dtype = (uint8_t)dtype;
    const bool floats = znn_exponent_bits(dtype) != 0, repeated = is_repeated(src, n, element_size);
    chunk->checksum = checksum && (repeated || !floats) ? znn_hash(src, n) : 0;

    if (repeated) {
        memcpy(dst, src, element_size);
        chunk->method = ZNN_METHOD_CONSTANT;
        chunk->stored_size = element_size;
        return ZNN_OK;
    }
    size_t size = 0;
    if (floats) {
        znn_hasher hasher;
        znn_hasher_begin(&hasher);
        size = znn_float_encode(coder, dst, n, src, n, dtype, level, checksum ? &hasher : NULL);
        chunk->checksum = checksum ? znn_hasher_end(&hasher) : 0;
        chunk->method = ZNN_METHOD_FLOAT;
    } else if (dtype != ZNN_BYTES) {
        size = znn_groups_encode(coder, dst, n, src, n, element_size, level);
        chunk->method = ZNN_METHOD_GROUPS;
    }
    /* What has no float's statistics may still be text, or repeat itself. */
    if (size == 0 || (dtype != ZNN_BYTES && size < n / 8)) {
        size_t limit = size ? size : n,
               zstd = znn_zstd_encode(coder, coder->stream, znn_chunk_encode_room(n), src, n, level);
        if (zstd && zstd < limit) {
            memcpy(dst, coder->stream, zstd);
            size = zstd;
            chunk->method = ZNN_METHOD_ZSTD;
        }
    }
    if (size == 0) {
        memcpy(dst, src, n);
        size = n;
        chunk->method = ZNN_METHOD_STORED;
    }
    chunk->stored_size = (uint32_t)size;
    return ZNN_OK;
}

znn_status znn_chunk_decode(znn_chunk_coder *coder, uint8_t *dst, const uint8_t *payload, size_t readable,
                            const znn_chunk *chunk, bool verify, bool large)
{
    size_t n = chunk->content_size, size = chunk->stored_size;
    unsigned element_size = znn_dtype_size((znn_dtype)chunk->dtype);
    if (element_size == 0)
        return ZNN_ERROR_UNSUPPORTED;
    if (n == 0 || n > coder->chunk_max || size > n || size > readable)
        return ZNN_ERROR_FORMAT;
    znn_status status = ZNN_OK;
    znn_hasher hasher;
    bool hashed = false; /* on the way */
    switch (chunk->method) {
    case ZNN_METHOD_STORED:
        if (size != n)
            return ZNN_ERROR_FORMAT;
        memcpy(dst, payload, n);
        break;
    case ZNN_METHOD_CONSTANT:
        if (size != element_size || n % element_size)
            return ZNN_ERROR_FORMAT;
        memcpy(dst, payload, element_size);
        for (size_t done = element_size, more; done < n; done += more) { /* twice as much each time */
            more = ZNN_MIN(done, n - done);
            memcpy(dst + done, dst, more);
        }
        break;
    case ZNN_METHOD_ZSTD:
        if (ZSTD_decompressDCtx(coder->dctx, dst, n, payload, size) != n)
            return ZNN_ERROR_FORMAT;
        break;
    case ZNN_METHOD_FLOAT:
        if (verify)
            znn_hasher_begin(&hasher);
        hashed = verify;
        status = znn_float_decode(coder, dst, n, payload, size, element_size, verify ? &hasher : NULL, large);
        break;
    case ZNN_METHOD_GROUPS: status = znn_groups_decode(coder, dst, n, payload, size, element_size); break;
    default: return ZNN_ERROR_UNSUPPORTED;
    }
    if (status != ZNN_OK)
        return status;
    if (verify && !znn_checksum_fits(chunk->checksum, hashed ? znn_hasher_end(&hasher) : znn_hash(dst, n)))
        return ZNN_ERROR_CHECKSUM;
    return ZNN_OK;
}
