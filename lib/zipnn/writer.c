/*
 * The pieces lie group by group, all chunks of the first group first. Every
 * piece is written where it would lie if nothing before it had shrunk, and
 * groups after one that did shrink are moved down at the end. Weights shrink in
 * their last group, so that it is rare.
 */
#include "base/log2.h"
#include "zipnn/groups.h"
#include "zipnn/huff0.h"
#include "zipnn/stream.h"

#define CHUNK_MIN 4096
#define CHUNK_MAX ((uint64_t)1 << 30)
#define STREAMING_MAX ((uint64_t)1 << 62)
#define SAMPLES 16
#define SAMPLE_SIZE 4096

static bool is_power_of_two(uint64_t v)
{
    return v && !(v & (v - 1));
}

static unsigned log2_of(uint64_t v)
{
    return 63u - (unsigned)__builtin_clzll(v);
}

void znn_zipnn_options_init(znn_zipnn_options *options)
{
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->input = ZNN_ZIPNN_BYTES;
    options->chunk = 262144;
    options->threshold = 0.95;
    options->delta = 1;
}

static bool check_options(znn_zipnn_options *copy, const znn_zipnn_options *given)
{
    znn_zipnn_options_init(copy);
    if (!given)
        return true;
    if (given->struct_size != sizeof *given)
        return false;
    *copy = *given;
    bool shaped = copy->input == ZNN_ZIPNN_TORCH || copy->input == ZNN_ZIPNN_NUMPY;
    return (unsigned)copy->dtype < ZNN_DTYPE_COUNT && (shaped || copy->input == ZNN_ZIPNN_BYTES) &&
           copy->dimensions <= ZNN_ZIPNN_DIMENSIONS_MAX && (copy->shape || !copy->dimensions) &&
           (shaped || !copy->dimensions) && copy->method >= 0 && copy->method <= 4 && copy->chunk >= CHUNK_MIN &&
           copy->chunk <= CHUNK_MAX && is_power_of_two(copy->chunk) &&
           (!copy->streaming_chunk || (is_power_of_two(copy->streaming_chunk) && copy->streaming_chunk >= CHUNK_MIN &&
                                       copy->streaming_chunk <= STREAMING_MAX && !shaped)) &&
           copy->threshold >= 0 && copy->threshold <= 1 && (copy->delta == 1 || copy->delta == 2) &&
           !copy->alloc == !copy->free;
}

/* ---- Which layout ---- */

/* A sample's entropy in 1/256 bits, a symbol for each byte group. */
static uint64_t sample_cost(const uint8_t *sample, size_t size, znn_dtype dtype)
{
    znn_zipnn_layout layout = znn_zipnn_layout_of(dtype);
    uint8_t memory[ZNN_ZIPNN_GROUPS_MAX][SAMPLE_SIZE], *group[ZNN_ZIPNN_GROUPS_MAX];
    uint32_t count[ZNN_ZIPNN_GROUPS_MAX][256] = {{0}};
    for (unsigned b = 0; b < ZNN_ZIPNN_GROUPS_MAX; b++)
        group[b] = memory[b];
    for (size_t at = 0; at < size; at += SAMPLE_SIZE) {
        size_t n = ZNN_MIN(size - at, SAMPLE_SIZE);
        znn_groups_split(group, sample + at, n, layout.groups, layout.reorder && layout.groups > 1);
        for (unsigned b = 0; b < layout.groups; b++)
            for (size_t i = 0; i < znn_group_size(n, layout.groups, b); i++)
                count[b][group[b][i]]++;
    }
    uint64_t cost = 0;
    for (unsigned b = 0; b < layout.groups; b++) {
        uint64_t bits = 0, total = znn_group_size(size, layout.groups, b);
        for (unsigned s = 0; s < 256; s++)
            if (count[b][s]) /* and what a sample looks better by than it is: 1 / (2 ln 2) bits a symbol */
                bits += count[b][s] * (uint64_t)(znn_log2_256((uint32_t)total) - znn_log2_256(count[b][s])) + 185;
        /* What hardly shrinks will be stored. */
        cost += bits < total * 8 * 256 * 95 / 100 ? bits : total * 8 * 256;
    }
    return cost;
}

static znn_dtype choose_dtype(const uint8_t *src, uint64_t size)
{
    static const znn_dtype candidates[] = {ZNN_BF16, ZNN_F32, ZNN_F16, ZNN_F8_E4M3, ZNN_U32};
    uint8_t sample[SAMPLES * SAMPLE_SIZE];
    size_t n = 0;
    if (size <= sizeof sample) {
        n = (size_t)size;
        if (n)
            memcpy(sample, src, n);
    } else {
        for (unsigned i = 0; i < SAMPLES; i++, n += SAMPLE_SIZE) /* from multiples of 8 */
            memcpy(sample + n, src + (size - SAMPLE_SIZE) / (SAMPLES - 1) * i / 8 * 8, SAMPLE_SIZE);
    }
    znn_dtype best = candidates[0];
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        uint64_t cost = sample_cost(sample, n, candidates[i]);
        if (cost < least) {
            least = cost;
            best = candidates[i];
        }
    }
    return best;
}

/* ---- Streams ---- */

typedef struct {
    const znn_zipnn_options *options;
    znn_allocator allocator;
    znn_huff0_encoder *encoder;
    uint8_t *memory; /* of the groups of a chunk, and of its difference to the base */
    uint8_t *plane[ZNN_ZIPNN_GROUPS_MAX], *difference;
    uint64_t planes_chunk;
} writer;

static unsigned header_size(const znn_zipnn_options *o)
{
    unsigned size = ZNN_ZIPNN_FIXED;
    if (o->input == ZNN_ZIPNN_BYTES)
        return size;
    size++;
    for (unsigned d = 0; d < o->dimensions; d++) {
        uint64_t n = o->shape[d];
        size += n < 256 ? 2 : n < 65536 ? 3 : n <= UINT32_MAX ? 5 : 9;
    }
    return size;
}

static void write_header(uint8_t *dst, const znn_zipnn_options *o, znn_zipnn_layout layout, uint64_t content_size,
                         uint64_t stored_size)
{
    memset(dst, 0, ZNN_ZIPNN_FIXED);
    memcpy(dst, "ZN\0\5\4", 5);
    dst[ZNN_ZIPNN_AT_GROUPING] = layout.grouping;
    dst[ZNN_ZIPNN_AT_REORDER] = layout.reorder;
    dst[ZNN_ZIPNN_AT_METHOD] = (uint8_t)o->method;
    dst[ZNN_ZIPNN_AT_INPUT] = (uint8_t)o->input;
    dst[ZNN_ZIPNN_AT_DELTA] = (uint8_t)(o->base ? o->delta : 0);
    dst[ZNN_ZIPNN_AT_STREAMING] = (uint8_t)(o->streaming_chunk ? 128 + log2_of(o->streaming_chunk) : 0);
    dst[ZNN_ZIPNN_AT_CHUNK] = (uint8_t)log2_of(o->chunk);
    dst[ZNN_ZIPNN_AT_DTYPE] = layout.code;
    znn_store64(dst + ZNN_ZIPNN_AT_CONTENT_SIZE, content_size);
    znn_store64(dst + ZNN_ZIPNN_AT_STORED_SIZE, stored_size);
    if (o->input == ZNN_ZIPNN_BYTES)
        return;
    uint8_t *at = dst + ZNN_ZIPNN_FIXED;
    *at++ = (uint8_t)o->dimensions;
    for (unsigned d = 0; d < o->dimensions; d++) {
        uint64_t n = o->shape[d];
        unsigned width = n < 256 ? 1 : n < 65536 ? 2 : n <= UINT32_MAX ? 4 : 8;
        *at++ = (uint8_t)width;
        for (unsigned i = 0; i < width; i++)
            *at++ = (uint8_t)(n >> (8 * i));
    }
}

/* Write a piece of `size` bytes at dst, where as many are free; its kind, and its size. */
static size_t write_piece(writer *w, uint8_t *dst, const uint8_t *src, size_t size, uint8_t *kind)
{
    double limit = (double)size * w->options->threshold; /* to stay below */
    size_t most = (size_t)limit, coded;
    most -= most > 0 && (double)most == limit;
    coded = znn_huff0_encode(w->encoder, dst, ZNN_MIN(most, size), src, size);
    *kind = coded > 0;
    if (!coded)
        memcpy(dst, src, size);
    return coded ? coded : size;
}

static void subtract(uint8_t *dst, const uint8_t *src, const uint8_t *base, size_t size)
{
    for (size_t i = 0; i < size; i++)
        dst[i] = src[i] ^ base[i];
}

/* One stream of src, `size` bytes, which lie at `offset` of the base. Its size. */
static uint64_t write_stream(writer *w, uint8_t *dst, const uint8_t *src, uint64_t size, uint64_t offset)
{
    const znn_zipnn_options *o = w->options;
    znn_dtype dtype = o->dtype == ZNN_AUTO ? choose_dtype(src, size) : o->dtype;
    znn_zipnn_layout layout = znn_zipnn_layout_of(dtype);
    unsigned groups = layout.groups;
    uint64_t chunk = groups == 1 ? ZNN_MIN(o->chunk, ZNN_ZIPNN_FP8_CHUNK_MAX) : o->chunk;
    uint64_t chunks = size / chunk + (size % chunk != 0);
    uint8_t *kinds = dst + header_size(o), *ends = kinds + groups * chunks, *data = ends + 8 * groups * chunks;
    uint8_t *region[ZNN_ZIPNN_GROUPS_MAX];
    uint64_t used[ZNN_ZIPNN_GROUPS_MAX] = {0};
    for (unsigned b = 0; b < groups; b++) {
        uint64_t last = size - (chunks ? chunks - 1 : 0) * chunk;
        region[b] = b ? region[b - 1] + (chunks ? (chunks - 1) * (chunk / groups) : 0) +
                            znn_group_size((size_t)last, groups, b - 1)
                      : data;
    }
    for (uint64_t c = 0; c < chunks; c++) {
        size_t n = (size_t)ZNN_MIN(chunk, size - c * chunk);
        const uint8_t *from = src + c * chunk;
        if (o->base) {
            subtract(w->difference, from, (const uint8_t *)o->base + offset + c * chunk, n);
            from = w->difference;
        }
        const uint8_t *plane[ZNN_ZIPNN_GROUPS_MAX] = {from};
        if (groups > 1) {
            znn_groups_split(w->plane, from, n, groups, layout.reorder);
            memcpy(plane, w->plane, sizeof w->plane);
        }
        for (unsigned b = 0; b < groups; b++) {
            uint64_t entry = b * chunks + c;
            used[b] += write_piece(w, region[b] + used[b], plane[b], znn_group_size(n, groups, b), &kinds[entry]);
            znn_store64(ends + 8 * entry, used[b]);
        }
    }
    uint8_t *end = data;
    for (unsigned b = 0; b < groups; b++) {
        if (end != region[b])
            memmove(end, region[b], (size_t)used[b]);
        end += used[b];
    }
    write_header(dst, o, layout, size, (uint64_t)(end - dst));
    return (uint64_t)(end - dst);
}

/* ---- In memory ---- */

static uint64_t stream_bound(uint64_t size, const znn_zipnn_options *o)
{
    /* The most pieces: 4 for each chunk, or 1 for each of half the size or less. */
    uint64_t chunk = ZNN_MIN(o->chunk, 4 * (uint64_t)ZNN_ZIPNN_FP8_CHUNK_MAX);
    uint64_t pieces = 4 * (size / chunk + 1), bound;
    if (__builtin_mul_overflow(pieces, ZNN_ZIPNN_TABLE_ENTRY, &bound) ||
        __builtin_add_overflow(bound, header_size(o), &bound) || __builtin_add_overflow(bound, size, &bound))
        return UINT64_MAX;
    return bound;
}

uint64_t znn_zipnn_bound(uint64_t size, const znn_zipnn_options *given)
{
    znn_zipnn_options o;
    if (!check_options(&o, given))
        return 0;
    if (!o.streaming_chunk || size <= o.streaming_chunk)
        return stream_bound(size, &o);
    uint64_t each = stream_bound(o.streaming_chunk, &o), count = size / o.streaming_chunk, bound;
    if (__builtin_mul_overflow(each, count, &bound) ||
        __builtin_add_overflow(bound, stream_bound(size % o.streaming_chunk, &o), &bound))
        return UINT64_MAX;
    return bound;
}

static bool open_writer(writer *w, const znn_zipnn_options *o, uint64_t size)
{
    *w = (writer){.options = o};
    znn_options options;
    znn_options_init(&options);
    options.alloc = o->alloc;
    options.free = o->free;
    options.opaque = o->opaque;
    w->allocator = znn_allocator_from(&options);
    size_t chunk = (size_t)ZNN_MIN(o->chunk, ZNN_MAX(size, 4)), part = chunk / 2 + 64;
    w->encoder = znn_alloc(&w->allocator, sizeof *w->encoder);
    w->memory = znn_alloc(&w->allocator, ZNN_ZIPNN_GROUPS_MAX * part + chunk);
    if (!w->memory)
        return false;
    for (unsigned b = 0; b < ZNN_ZIPNN_GROUPS_MAX; b++)
        w->plane[b] = w->memory + b * part;
    w->difference = w->memory + ZNN_ZIPNN_GROUPS_MAX * part;
    return w->encoder != NULL;
}

znn_status znn_zipnn_compress(void *dst, uint64_t dst_capacity, uint64_t *dst_size, const void *src, uint64_t src_size,
                              const znn_zipnn_options *given)
{
    znn_zipnn_options o;
    if (!dst || !dst_size || (!src && src_size) || !check_options(&o, given))
        return ZNN_ERROR_ARGUMENT;
    *dst_size = 0;
    if (o.base && o.base_size != src_size)
        return ZNN_ERROR_BASE;
    if (dst_capacity < znn_zipnn_bound(src_size, &o))
        return ZNN_ERROR_DST_TOO_SMALL;
    writer w;
    znn_status status = open_writer(&w, &o, src_size) ? ZNN_OK : ZNN_ERROR_MEMORY;
    uint64_t step = o.streaming_chunk ? o.streaming_chunk : src_size, done = 0;
    while (status == ZNN_OK) {
        uint64_t n = ZNN_MIN(step, src_size - done);
        *dst_size += write_stream(&w, (uint8_t *)dst + *dst_size, (const uint8_t *)src + done, n, done);
        done += n;
        if (done == src_size)
            break;
    }
    znn_dealloc(&w.allocator, w.memory);
    znn_dealloc(&w.allocator, w.encoder);
    return status;
}
