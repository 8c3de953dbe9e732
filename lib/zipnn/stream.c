#include "zipnn/stream.h"

#include "zipnn/huff0.h"

#define GROUPING_16 10  /* 8- and 16-bit types */
#define GROUPING_32 220 /* 32-bit types */
#define CODE_UINT32 15

static const struct {
    znn_dtype dtype;
    uint8_t code;
} codes[] = {
    {ZNN_F32, 1}, {ZNN_F32, 2}, {ZNN_F16, 4}, {ZNN_F16, 5}, {ZNN_BF16, 6}, {ZNN_F8_E4M3, 29}, {ZNN_F8_E5M2, 30},
};

/* The streams know only floats: other numbers take the layout of their width. */
znn_zipnn_layout znn_zipnn_layout_of(znn_dtype dtype)
{
    switch (dtype) {
    case ZNN_BF16: return (znn_zipnn_layout){6, GROUPING_16, 2, true};
    case ZNN_F32: return (znn_zipnn_layout){1, GROUPING_32, 4, true};
    case ZNN_F8_E4M3: return (znn_zipnn_layout){29, GROUPING_16, 1, true};
    case ZNN_F8_E5M2: return (znn_zipnn_layout){30, GROUPING_16, 1, true};
    default: break;
    }
    switch (znn_dtype_size(dtype)) {
    case 2: return (znn_zipnn_layout){4, GROUPING_16, 2, false};
    case 4:
    case 8: return (znn_zipnn_layout){1, GROUPING_32, 4, false};
    default: return (znn_zipnn_layout){29, GROUPING_16, 1, true};
    }
}

static bool find_dtype(znn_zipnn_header *h, uint8_t code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code) {
            h->dtype = codes[i].dtype;
            h->groups = znn_dtype_size(h->dtype);
            return true;
        }
    return false;
}

static znn_status read_shape(znn_zipnn_header *h, const uint8_t *src, size_t looked)
{
    size_t at = ZNN_ZIPNN_FIXED;
    if (at >= looked)
        return ZNN_ERROR_TRUNCATED;
    h->dimensions = src[at++];
    for (unsigned d = 0; d < h->dimensions; d++) {
        if (at >= looked)
            return ZNN_ERROR_TRUNCATED;
        unsigned width = src[at++];
        if (width != 1 && width != 2 && width != 4 && width != 8)
            return ZNN_ERROR_FORMAT;
        if (looked - at < width)
            return ZNN_ERROR_TRUNCATED;
        h->shape[d] = 0;
        for (unsigned i = 0; i < width; i++)
            h->shape[d] |= (uint64_t)src[at++] << (8 * i);
    }
    h->header_size = (unsigned)at;
    return ZNN_OK;
}

/* With methods zstd and lz4 and an unusual grouping, zipnn puts the frame right
 * after the fixed header, or after a second, older copy of it; the sizes in the
 * header are then not this stream's. In the usual layout a kind (0 or 1), or a
 * number of dimensions that no such frame begins with, is at that place. */
static bool find_whole_frame(znn_zipnn_header *h, const uint8_t *src, size_t looked, uint64_t left)
{
    static const uint8_t zstd[4] = {0x28, 0xB5, 0x2F, 0xFD}, lz4[4] = {0x04, 0x22, 0x4D, 0x18};
    size_t at = ZNN_ZIPNN_FIXED;
    if (h->method != 2 && h->method != 3)
        return false;
    bool twice = looked >= 2 * at + 4 && memcmp(src + at, "ZN", 2) == 0;
    at += twice ? at : 0;
    if (looked < at + 4)
        return false;
    if (memcmp(src + at, zstd, 4) == 0)
        h->payload = ZNN_ZIPNN_ZSTD;
    else if (memcmp(src + at, lz4, 4) == 0)
        h->payload = ZNN_ZIPNN_LZ4;
    else
        return false;
    h->header_size = (unsigned)at;
    if (!twice)
        h->stored_size = left;
    return true;
}

znn_status znn_zipnn_header_read(znn_zipnn_header *h, const uint8_t *src, size_t looked, uint64_t left)
{
    memset(h, 0, offsetof(znn_zipnn_header, shape));
    if (looked < 2 || src[0] != 'Z' || src[1] != 'N')
        return ZNN_ERROR_FORMAT;
    if (looked < ZNN_ZIPNN_FIXED)
        return ZNN_ERROR_TRUNCATED;
    memcpy(h->version, src + ZNN_ZIPNN_AT_VERSION, 3);
    if (h->version[0] != 0 || h->version[1] < 4 || h->version[1] > 5)
        return ZNN_ERROR_UNSUPPORTED;
    h->method = src[ZNN_ZIPNN_AT_METHOD];
    h->input = src[ZNN_ZIPNN_AT_INPUT];
    h->delta = src[ZNN_ZIPNN_AT_DELTA];
    if (h->method > 4 || h->input < ZNN_ZIPNN_BYTES || h->input > ZNN_ZIPNN_FILE || h->delta > 2 ||
        src[ZNN_ZIPNN_AT_REORDER] > 1)
        return ZNN_ERROR_FORMAT;
    if (src[ZNN_ZIPNN_AT_LOSSY] || src[ZNN_ZIPNN_AT_LOSSY + 2] || src[ZNN_ZIPNN_AT_DTYPE] == CODE_UINT32)
        return ZNN_ERROR_UNSUPPORTED;
    if (!find_dtype(h, src[ZNN_ZIPNN_AT_DTYPE]))
        return ZNN_ERROR_FORMAT;
    unsigned streaming = src[ZNN_ZIPNN_AT_STREAMING], chunk = src[ZNN_ZIPNN_AT_CHUNK];
    if ((streaming && (streaming < 128 || streaming >= 128 + 64)) || chunk < 2 || chunk > 62)
        return ZNN_ERROR_FORMAT;
    h->streaming = streaming ? (uint64_t)1 << (streaming - 128) : 0;
    h->chunk = (uint64_t)1 << chunk;
    h->reorder = src[ZNN_ZIPNN_AT_REORDER] == 1 && h->groups > 1;
    if (h->groups == 1)
        h->chunk = ZNN_MIN(h->chunk, ZNN_ZIPNN_FP8_CHUNK_MAX);
    h->content_size = znn_load64(src + ZNN_ZIPNN_AT_CONTENT_SIZE);
    h->stored_size = znn_load64(src + ZNN_ZIPNN_AT_STORED_SIZE);
    h->header_size = ZNN_ZIPNN_FIXED;

    if (find_whole_frame(h, src, looked, left)) {
        if (h->stored_size > left)
            return ZNN_ERROR_TRUNCATED;
        if (h->stored_size < h->header_size)
            return ZNN_ERROR_FORMAT;
        if (!znn_zipnn_whole_size(h->payload, src + h->header_size, looked - h->header_size, &h->content_size))
            return ZNN_ERROR_UNSUPPORTED;
        /* The most a byte stands for: zstd's blocks are of 4 bytes at least and 128 KiB at most. */
        const uint64_t most = h->payload == ZNN_ZIPNN_ZSTD ? (128 << 10) / 4 : 255;
        return h->content_size / most <= h->stored_size - h->header_size ? ZNN_OK : ZNN_ERROR_FORMAT;
    }
    if (src[ZNN_ZIPNN_AT_GROUPING] != (h->groups == 4 ? GROUPING_32 : GROUPING_16))
        return ZNN_ERROR_UNSUPPORTED;
    if (h->input == ZNN_ZIPNN_TORCH || h->input == ZNN_ZIPNN_NUMPY) {
        znn_status status = read_shape(h, src, looked);
        if (status != ZNN_OK)
            return status;
    }
    if (h->stored_size > left)
        return ZNN_ERROR_TRUNCATED;
    if (h->stored_size < h->header_size)
        return ZNN_ERROR_FORMAT;
    h->chunks = h->content_size / h->chunk + (h->content_size % h->chunk != 0);
    /* After a second header lies what no other method puts there: snappy's bytes. */
    if (h->method == 4 && looked >= ZNN_ZIPNN_FIXED + 2 && memcmp(src + ZNN_ZIPNN_FIXED, "ZN", 2) == 0)
        return ZNN_ERROR_UNSUPPORTED;
    if (h->content_size == 0 && h->stored_size != h->header_size)
        return ZNN_ERROR_FORMAT;
    /* Tables that do not fit would be read past the end. NOLINTNEXTLINE(clang-analyzer-core.*): groups are 1 or more */
    if (h->chunks > (h->stored_size - h->header_size) / ZNN_ZIPNN_TABLE_ENTRY / h->groups)
        return ZNN_ERROR_FORMAT;
    /* Pieces are stored, or blocks of so much at most. */
    if (h->content_size > h->stored_size &&
        (h->content_size - h->stored_size) / ZNN_HUFF0_MAX > h->chunks * h->groups)
        return ZNN_ERROR_FORMAT;
    return ZNN_OK;
}
