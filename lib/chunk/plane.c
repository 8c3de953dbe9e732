/* One plane of bytes: raw, constant, wide-coded, or zstd, whichever is smallest
 * by more than it costs to decode. Coded forms begin with their size (u32). */
#include "chunk/methods.h"
#include "entropy/wide.h"

/* A coded plane must save this share of itself, or memory speed is worth more. */
#define WORTH 128 /* 1 / 128 */
#define TRIAL 8192
#define SAMPLE_RUN 64
#define SAMPLE_EVERY 1024

static void histogram(uint32_t counts[256], const uint8_t *src, size_t n)
{
    uint32_t part[4][256]; /* so that equal neighbours do not wait for each other */
    memset(part, 0, sizeof part);
    size_t i = 0;
    for (; n - i >= 4; i += 4)
        for (unsigned k = 0; k < 4; k++)
            part[k][src[i + k]]++;
    for (; i < n; i++)
        part[0][src[i]]++;
    for (unsigned s = 0; s < 256; s++)
        counts[s] = part[0][s] + part[1][s] + part[2][s] + part[3][s];
}

/* True if a sample looks like noise, so that counting every byte would be in vain. */
static bool looks_like_noise(const uint8_t *src, size_t n)
{
    if (n < 65536)
        return false;
    uint32_t counts[256] = {0};
    size_t total = 0;
    for (size_t at = 0; at + SAMPLE_RUN <= n; at += SAMPLE_EVERY)
        for (size_t i = at; i < at + SAMPLE_RUN; i++, total++)
            counts[src[i]]++;
    /* Sum of squares: total^2 / 256 + total for noise; 1/64 bit less shows as 2 % more. */
    uint64_t squares = 0;
    for (unsigned s = 0; s < 256; s++)
        squares += (uint64_t)counts[s] * counts[s];
    uint64_t expected = (uint64_t)total * total / 256 + total;
    return squares < expected + expected / 64;
}

static bool is_constant(const uint8_t *src, size_t n)
{
    return n == 1 || memcmp(src, src + 1, n - 1) == 0;
}

/* zstd is tried where a piece of the plane says that it sees more than how often
 * each byte comes: for most planes of weights it is time lost. */
static bool zstd_may_win(znn_chunk_coder *coder, const uint8_t *src, size_t n, int level)
{
    if (level >= 7 || n < 4 * TRIAL)
        return true;
    const uint8_t *piece = src + (n - TRIAL) / 2;
    uint32_t counts[256];
    histogram(counts, piece, TRIAL);
    const size_t order0 = znn_wide_estimate(counts, TRIAL) - 4 * ZNN_WIDE_LANES;
    const size_t size = znn_zstd_encode(coder, coder->stream, znn_wide_room(coder->chunk_max), piece, TRIAL, 1);
    return size && size < order0;
}

size_t znn_plane_encode(znn_chunk_coder *coder, uint8_t *dst, const uint8_t *src, size_t n, bool numbers, int level,
                        znn_plane_method *method)
{
    *method = ZNN_PLANE_RAW;
    if (is_constant(src, n)) {
        *method = ZNN_PLANE_CONSTANT;
        dst[0] = src[0];
        return 1;
    }
    if (n < 256 || (numbers && looks_like_noise(src, n)))
        return n;
    uint32_t counts[256];
    histogram(counts, src, n);
    size_t best = n - n / WORTH;
    size_t wide = znn_wide_estimate(counts, n) + 4;
    if (!numbers && zstd_may_win(coder, src, n, level)) {
        size_t size = znn_zstd_encode(coder, coder->stream, znn_wide_room(coder->chunk_max), src, n, ZNN_MAX(level, 3));
        if (size && size + 4 < ZNN_MIN(best, wide)) {
            znn_store32(dst, (uint32_t)size);
            memcpy(dst + 4, coder->stream, size);
            *method = ZNN_PLANE_ZSTD;
            return size + 4;
        }
    }
    if (wide < best) {
        size_t size = znn_wide_encode(coder->stream, src, n, counts) + 4;
        if (size < best) {
            znn_store32(dst, (uint32_t)(size - 4));
            memcpy(dst + 4, coder->stream, size - 4);
            *method = ZNN_PLANE_WIDE;
            return size;
        }
    }
    return n;
}

bool znn_plane_decode(znn_chunk_coder *coder, uint8_t *dst, size_t n, const uint8_t *src, size_t size,
                      znn_plane_method method, const uint8_t **plane, size_t *used)
{
    *plane = dst;
    switch (method) {
    case ZNN_PLANE_RAW:
        *plane = src;
        *used = n;
        return size >= n;
    case ZNN_PLANE_CONSTANT:
        if (size < 1)
            return false;
        memset(dst, src[0], n);
        *used = 1;
        return true;
    default:
        if (size < 4 || znn_load32(src) > size - 4)
            return false;
        *used = 4 + (size_t)znn_load32(src);
        if (method == ZNN_PLANE_WIDE)
            return znn_wide_decode(dst, n, src + 4, *used - 4);
        return ZSTD_decompressDCtx(coder->dctx, dst, n, src + 4, *used - 4) == n;
    }
}
