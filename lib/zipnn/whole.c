/* Whole frames of zstd and LZ4 after a ZipNN header. */
#include "zipnn/stream.h"

#include <zstd.h>
#ifdef ZNN_HAVE_LZ4
#include <lz4frame.h>
#endif

bool znn_zipnn_whole_size(znn_zipnn_payload payload, const uint8_t *src, size_t looked, uint64_t *size)
{
    if (payload == ZNN_ZIPNN_ZSTD) {
        unsigned long long n = ZSTD_getFrameContentSize(src, looked);
        *size = n;
        return n != ZSTD_CONTENTSIZE_UNKNOWN && n != ZSTD_CONTENTSIZE_ERROR;
    }
#ifdef ZNN_HAVE_LZ4
    /* The flags say whether the size follows; zipnn's writer always has it. */
    if (looked < 14 || !(src[4] & 8))
        return false;
    *size = znn_load64(src + 6);
    return true;
#else
    (void)src, (void)looked, (void)size;
    return false;
#endif
}

#ifdef ZNN_HAVE_LZ4
static znn_status decode_lz4(uint8_t *dst, size_t dst_size, const uint8_t *src, size_t src_size)
{
    LZ4F_dctx *context;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)))
        return ZNN_ERROR_MEMORY;
    size_t in = 0, out = 0, more = 1;
    while (more) {
        size_t produced = dst_size - out, consumed = src_size - in;
        more = LZ4F_decompress(context, dst + out, &produced, src + in, &consumed, NULL);
        if (LZ4F_isError(more) || (!produced && !consumed))
            break;
        out += produced;
        in += consumed;
    }
    LZ4F_freeDecompressionContext(context);
    return more == 0 && out == dst_size && in == src_size ? ZNN_OK : ZNN_ERROR_FORMAT;
}
#endif

znn_status znn_zipnn_whole_decode(znn_zipnn_payload payload, uint8_t *dst, size_t dst_size, const uint8_t *src,
                                  size_t src_size)
{
    if (payload == ZNN_ZIPNN_ZSTD) {
        size_t n = ZSTD_decompress(dst, dst_size, src, src_size);
        return !ZSTD_isError(n) && n == dst_size ? ZNN_OK : ZNN_ERROR_FORMAT;
    }
#ifdef ZNN_HAVE_LZ4
    return decode_lz4(dst, dst_size, src, src_size);
#else
    return ZNN_ERROR_UNSUPPORTED;
#endif
}
