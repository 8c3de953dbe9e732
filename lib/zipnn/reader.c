#include "zipnn/reader.h"

#include "base/cpu.h"

#define NO_PART UINT64_MAX
#define CONTENTION 4096

/* ---- The file ---- */

znn_status znn_zipnn_fetch(const znn_zipnn_reader *r, const uint8_t **data, uint64_t offset, size_t size, void *buffer)
{
    if (offset > r->size || size > r->size - offset)
        return ZNN_ERROR_TRUNCATED;
    *data = r->src ? r->src + offset : buffer;
    return r->src || !size || r->read(r->opaque, offset, buffer, size) == 0 ? ZNN_OK : ZNN_ERROR_IO;
}

znn_status znn_zipnn_fetch_header(const znn_zipnn_reader *r, znn_zipnn_header *header, uint64_t offset, uint64_t left)
{
    uint8_t buffer[ZNN_ZIPNN_LOOK];
    const uint8_t *data;
    size_t looked = (size_t)ZNN_MIN(left, ZNN_ZIPNN_LOOK);
    znn_status status = znn_zipnn_fetch(r, &data, offset, looked, buffer);
    return status == ZNN_OK ? znn_zipnn_header_read(header, data, looked, left) : status;
}

/* ---- Parts ---- */

znn_status znn_zipnn_add_part(znn_zipnn_reader *r, znn_zipnn_kind kind, const char *name, znn_dtype dtype,
                              uint64_t stored_offset, uint64_t content_size)
{
    if (r->count + 2 > r->room) {
        uint64_t room = r->room ? 2 * r->room : 16;
        if (room > SIZE_MAX / sizeof *r->parts)
            return ZNN_ERROR_MEMORY;
        znn_zipnn_entry *parts = znn_alloc(&r->allocator, (size_t)room * sizeof *parts);
        if (!parts)
            return ZNN_ERROR_MEMORY;
        if (r->count)
            memcpy(parts, r->parts, (size_t)r->count * sizeof *parts);
        znn_dealloc(&r->allocator, r->parts);
        r->parts = parts;
        r->room = room;
    }
    uint64_t begin = r->info.content_size, end;
    if (__builtin_add_overflow(begin, content_size, &end))
        return ZNN_ERROR_FORMAT;
    r->parts[r->count++] = (znn_zipnn_entry){begin, stored_offset, name, (uint32_t)dtype, (uint32_t)kind};
    r->parts[r->count] = (znn_zipnn_entry){.content_offset = end};
    r->info.content_size = end;
    return ZNN_OK;
}

void znn_zipnn_describe(znn_zipnn_info *info, const znn_zipnn_header *header)
{
    for (unsigned i = 0; i < 3; i++)
        info->version[i] = header->version[i];
    info->input = header->input;
    info->method = header->method;
    info->delta = header->delta;
    info->streaming_chunk = header->streaming;
    info->chunk = header->chunk;
}

static znn_status open_streams(znn_zipnn_reader *r)
{
    for (uint64_t at = 0; at < r->size; at += r->header.stored_size) {
        znn_status status = znn_zipnn_fetch_header(r, &r->header, at, r->size - at);
        if (status != ZNN_OK)
            return status;
        if (at == 0)
            znn_zipnn_describe(&r->info, &r->header);
        else if (r->header.delta != r->info.delta)
            return ZNN_ERROR_FORMAT;
        /* A stream of nothing is no part, except alone, to have its shape. */
        if (r->header.content_size || r->header.stored_size == r->size)
            status = znn_zipnn_add_part(r, ZNN_ZIPNN_STREAM, NULL, r->header.dtype, at, r->header.content_size);
        if (status != ZNN_OK)
            return status;
    }
    return ZNN_OK;
}

/* ---- Opening ---- */

static znn_status open_reader(znn_zipnn_reader **reader, const void *src, znn_read_fn read, void *opaque, uint64_t size,
                              const znn_options *given)
{
    znn_options options;
    *reader = NULL;
    znn_status status = znn_options_check(&options, given);
    if (status != ZNN_OK)
        return status;
    znn_allocator allocator = znn_allocator_from(&options);
    znn_zipnn_reader *r = znn_alloc(&allocator, sizeof *r);
    if (!r)
        return ZNN_ERROR_MEMORY;
    memset(r, 0, sizeof *r);
    r->allocator = allocator;
    r->base = options.base;
    r->base_size = options.base_size;
    r->memory_limit = options.memory_limit;
    r->src = src;
    r->read = read;
    r->opaque = opaque;
    r->size = size;
    r->info.stored_size = size;
    r->current = r->chunk_part = NO_PART;

    uint8_t buffer[2];
    const uint8_t *start;
    status = size ? znn_zipnn_fetch(r, &start, 0, (size_t)ZNN_MIN(size, 2), buffer) : ZNN_ERROR_FORMAT;
    if (status == ZNN_OK)
        status = znn_zipnn_is(start, ZNN_MIN(size, 2)) ? open_streams(r) : znn_zipnn_open_safetensors(r);
    r->info.parts = r->count;
    if (status == ZNN_OK && r->base && r->base_size != r->info.content_size)
        status = ZNN_ERROR_BASE;
    if (status == ZNN_OK)
        *reader = r;
    else
        znn_zipnn_reader_free(r);
    return status;
}

znn_status znn_zipnn_reader_open(znn_zipnn_reader **reader, const void *src, uint64_t src_size,
                                 const znn_options *options)
{
    if (!reader || (!src && src_size))
        return ZNN_ERROR_ARGUMENT;
    return open_reader(reader, src ? src : "", NULL, NULL, src_size, options);
}

znn_status znn_zipnn_reader_open_fn(znn_zipnn_reader **reader, znn_read_fn read, void *opaque, uint64_t size,
                                    const znn_options *options)
{
    return reader && read ? open_reader(reader, NULL, read, opaque, size, options) : ZNN_ERROR_ARGUMENT;
}

void znn_zipnn_reader_free(znn_zipnn_reader *r)
{
    if (!r)
        return;
    znn_allocator allocator = r->allocator;
    znn_safetensors_free(r->file);
    znn_dealloc(&allocator, r->made);
    znn_dealloc(&allocator, r->parts);
    znn_dealloc(&allocator, r->decoder);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned b = 0; b < ZNN_ZIPNN_GROUPS_MAX; b++)
            znn_dealloc(&allocator, r->plane[i][b]);
        znn_dealloc(&allocator, r->pieces[i]);
    }
    znn_dealloc(&allocator, r->chunk);
    znn_dealloc(&allocator, r);
}

uint64_t znn_zipnn_reader_size(const znn_zipnn_reader *r)
{
    return r->info.content_size;
}

/* ---- Chunks ---- */

/* Where the piece of a chunk ends among its group's, by the table; 0 before the first. */
static znn_status piece_end(const znn_zipnn_reader *r, unsigned group, uint64_t chunks, uint64_t *end)
{
    *end = 0;
    if (!chunks)
        return ZNN_OK;
    const znn_zipnn_header *h = &r->header;
    uint8_t buffer[8];
    const uint8_t *entry;
    znn_status status =
        znn_zipnn_fetch(r, &entry, r->tables + h->groups * h->chunks + 8 * (group * h->chunks + chunks - 1), 8, buffer);
    if (status == ZNN_OK)
        *end = znn_load64(entry);
    return status;
}

/* Make a part of kind STREAM the current one. */
static znn_status select_part(znn_zipnn_reader *r, uint64_t index)
{
    if (r->current == index)
        return ZNN_OK;
    r->current = NO_PART;
    const znn_zipnn_entry *part = &r->parts[index];
    znn_zipnn_header *h = &r->header;
    znn_status status = znn_zipnn_fetch_header(r, h, part->stored_offset, r->size - part->stored_offset);
    if (status != ZNN_OK)
        return status;
    if (h->content_size != part[1].content_offset - part->content_offset)
        return ZNN_ERROR_FORMAT; /* the file changed */
    if (h->payload == ZNN_ZIPNN_PIECES) {
        r->tables = part->stored_offset + h->header_size;
        uint64_t at = r->tables + ZNN_ZIPNN_TABLE_ENTRY * h->groups * h->chunks;
        uint64_t left = part->stored_offset + h->stored_size - at;
        for (unsigned b = 0; b < h->groups; b++) {
            status = piece_end(r, b, h->chunks, &r->group_size[b]);
            if (status != ZNN_OK)
                return status;
            if (r->group_size[b] > left)
                return ZNN_ERROR_FORMAT;
            r->group_at[b] = at;
            at += r->group_size[b];
            left -= r->group_size[b];
        }
        if (left)
            return ZNN_ERROR_FORMAT;
    }
    r->current = index;
    return ZNN_OK;
}

static znn_status make_room(const znn_zipnn_reader *r, uint8_t **buffer, uint64_t *room, uint64_t size)
{
    if (*room >= size)
        return ZNN_OK;
    if (size > r->memory_limit || size > SIZE_MAX)
        return ZNN_ERROR_LIMIT;
    znn_dealloc(&r->allocator, *buffer);
    *room = 0;
    *buffer = znn_alloc(&r->allocator, (size_t)size);
    if (!*buffer)
        return ZNN_ERROR_MEMORY;
    *room = size;
    return ZNN_OK;
}

/* Where a group may be decoded to. Eight streams that are written a multiple of
 * 4 KiB apart would contend for the same lines of the cache, so the planes of
 * the second chunk begin half of that later. */
static uint8_t *plane_of(znn_zipnn_reader *r, unsigned which, unsigned b)
{
    uint8_t **plane = &r->plane[which][b];
    if (!*plane)
        *plane = znn_alloc(&r->allocator, ZNN_HUFF0_MAX + 2 * CONTENTION);
    if (!*plane)
        return NULL;
    return *plane + (-(uintptr_t)*plane & (CONTENTION - 1)) + which * CONTENTION / 2;
}

/* Group `b` of a chunk, `size` bytes of it. Afterwards block->dst is where it
 * lies, or has to be decoded to: then block->src_size is not 0. `buffer`, as
 * large, is where it may be read to; `dst` where the chunk is wanted. */
static znn_status find_group(znn_zipnn_reader *r, znn_huff0_block *block, unsigned which, unsigned b, uint64_t chunk,
                             size_t size, uint8_t *buffer, uint8_t *dst)
{
    const znn_zipnn_header *h = &r->header;
    uint8_t byte;
    const uint8_t *kind, *piece;
    uint64_t begin, end;
    znn_status status = znn_zipnn_fetch(r, &kind, r->tables + b * h->chunks + chunk, 1, &byte);
    if (status == ZNN_OK)
        status = piece_end(r, b, chunk, &begin);
    if (status == ZNN_OK)
        status = piece_end(r, b, chunk + 1, &end);
    if (status != ZNN_OK)
        return status;
    if (begin > end || end > r->group_size[b] || end - begin > size || *kind > 1 || (*kind == 0 && end - begin != size))
        return ZNN_ERROR_FORMAT;
    status = znn_zipnn_fetch(r, &piece, r->group_at[b] + begin, (size_t)(end - begin), buffer);
    if (status != ZNN_OK)
        return status;
    if (*kind == 0) {
        *block = (znn_huff0_block){(uint8_t *)(uintptr_t)piece, size, NULL, 0, false}; /* only to be read */
        return ZNN_OK;
    }
    if (begin == end || size > ZNN_HUFF0_MAX)
        return ZNN_ERROR_FORMAT;
    bool direct = h->groups == 1;
    *block = (znn_huff0_block){direct ? dst : plane_of(r, which, b), size, piece, (size_t)(end - begin),
                               direct && r->large};
    return block->dst ? ZNN_OK : ZNN_ERROR_MEMORY;
}

static znn_status decode_blocks(znn_zipnn_reader *r, const znn_huff0_block *blocks, unsigned count)
{
    if (!r->decoder)
        r->decoder = znn_alloc(&r->allocator, sizeof *r->decoder);
    if (!r->decoder)
        return ZNN_ERROR_MEMORY;
    return znn_huff0_decode(r->decoder, blocks, count) ? ZNN_OK : ZNN_ERROR_FORMAT;
}

/* What a header says, and more than memory has: where size_t has 32 bits, it would be cut. */
static uint64_t chunk_size(const znn_zipnn_header *h, uint64_t chunk)
{
    return ZNN_MIN(h->chunk, h->content_size - chunk * h->chunk);
}

/* `count` chunks, 1 or 2, from `chunk` on, to dst, which has room for them. */
static znn_status decode_chunks(znn_zipnn_reader *r, uint8_t *dst, uint64_t chunk, unsigned count)
{
    const znn_zipnn_header *h = &r->header;
    znn_huff0_block group[ZNN_ZIPNN_GROUPS_MAX][2];
    znn_status status = ZNN_OK;
    for (unsigned i = 0; status == ZNN_OK && i < count; i++) {
        size_t size = (size_t)chunk_size(h, chunk + i);
        status = r->src ? ZNN_OK : make_room(r, &r->pieces[i], &r->pieces_room[i], size);
        uint8_t *buffer = r->pieces[i];
        for (unsigned b = 0; status == ZNN_OK && b < h->groups; b++) {
            size_t n = znn_group_size(size, h->groups, b);
            group[b][i] = (znn_huff0_block){0};
            if (n) /* else there is no piece, whatever the tables say */
                status = find_group(r, &group[b][i], i, b, chunk + i, n, buffer, dst + i * h->chunk);
            buffer = r->src ? NULL : buffer + n;
        }
    }
    for (unsigned b = 0; status == ZNN_OK && b < h->groups; b++) {
        znn_huff0_block coded[2];
        unsigned n = 0;
        for (unsigned i = 0; i < count; i++)
            if (group[b][i].src_size)
                coded[n++] = group[b][i];
        status = n ? decode_blocks(r, coded, n) : ZNN_OK;
    }
    for (unsigned i = 0; status == ZNN_OK && i < count; i++) {
        const uint8_t *from[ZNN_ZIPNN_GROUPS_MAX];
        for (unsigned b = 0; b < h->groups; b++)
            from[b] = group[b][i].dst;
        znn_groups_merge(dst + i * h->chunk, (size_t)chunk_size(h, chunk + i), from, h->groups, h->reorder,
                         r->large);
    }
    return status;
}

static znn_status decode_whole(znn_zipnn_reader *r, uint8_t *dst)
{
    const znn_zipnn_header *h = &r->header;
    uint64_t stored = h->stored_size - h->header_size;
    znn_status status = r->src ? ZNN_OK : make_room(r, &r->pieces[0], &r->pieces_room[0], stored);
    size_t size = (size_t)stored; /* it is in memory */
    const uint8_t *frame;
    if (status == ZNN_OK)
        status = znn_zipnn_fetch(r, &frame, r->parts[r->current].stored_offset + h->header_size, size, r->pieces[0]);
    return status == ZNN_OK ? znn_zipnn_whole_decode(h->payload, dst, (size_t)h->content_size, frame, size) : status;
}

/* Bytes [offset, offset + size) of the current stream. */
static znn_status read_stream(znn_zipnn_reader *r, uint8_t *dst, uint64_t offset, uint64_t size)
{
    const znn_zipnn_header *h = &r->header;
    bool whole = h->payload != ZNN_ZIPNN_PIECES;
    znn_status status = ZNN_OK;
    while (size && status == ZNN_OK) {
        uint64_t chunk = whole ? 0 : offset / h->chunk, begin = chunk * h->chunk;
        uint64_t have = whole ? h->content_size : chunk_size(h, chunk);
        uint64_t n = ZNN_MIN(size, begin + have - offset);
        if (n == have && whole) {
            status = decode_whole(r, dst);
        } else if (n == have) {
            bool two = size - n >= h->chunk;
            status = decode_chunks(r, dst, chunk, two ? 2 : 1);
            n += two ? h->chunk : 0;
        } else {
            if (r->chunk_part != r->current || r->chunk_index != chunk) {
                r->chunk_part = NO_PART;
                status = make_room(r, &r->chunk, &r->chunk_room, have);
                if (status == ZNN_OK)
                    status = whole ? decode_whole(r, r->chunk) : decode_chunks(r, r->chunk, chunk, 1);
            }
            if (status != ZNN_OK)
                break;
            r->chunk_part = r->current;
            r->chunk_index = chunk;
            memcpy(dst, r->chunk + (offset - begin), (size_t)n);
        }
        dst += n;
        offset += n;
        size -= n;
    }
    return status;
}

/* ---- Reading ---- */

/* The part that has the content's byte `offset`. */
static uint64_t find_part(const znn_zipnn_reader *r, uint64_t offset)
{
    uint64_t low = 0, high = r->count;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (r->parts[middle].content_offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static znn_status read_part(znn_zipnn_reader *r, uint64_t index, uint8_t *dst, uint64_t offset, uint64_t size)
{
    const znn_zipnn_entry *part = &r->parts[index];
    znn_status status;
    switch (part->kind) {
    case ZNN_ZIPNN_MADE: memcpy(dst, r->made + offset, (size_t)size); return ZNN_OK;
    case ZNN_ZIPNN_COPY: {
        const uint8_t *data;
        status = znn_zipnn_fetch(r, &data, part->stored_offset + offset, (size_t)size, dst);
        if (status == ZNN_OK && data != dst)
            memcpy(dst, data, (size_t)size);
        return status;
    }
    default: status = select_part(r, index); return status == ZNN_OK ? read_stream(r, dst, offset, size) : status;
    }
}

static znn_status read_parts(znn_zipnn_reader *r, uint8_t *dst, uint64_t offset, uint64_t size)
{
    uint64_t left = size, at = offset;
    for (uint64_t index = find_part(r, at); left; index++) {
        const znn_zipnn_entry *part = &r->parts[index];
        uint64_t n = ZNN_MIN(left, part[1].content_offset - at);
        znn_status status = n ? read_part(r, index, dst, at - part->content_offset, n) : ZNN_OK;
        if (status != ZNN_OK)
            return status;
        dst += n;
        at += n;
        left -= n;
    }
    return ZNN_OK;
}

znn_status znn_zipnn_reader_read(znn_zipnn_reader *r, void *dst, uint64_t offset, uint64_t size)
{
    if (!r || (!dst && size) || offset > r->info.content_size || size > r->info.content_size - offset)
        return ZNN_ERROR_ARGUMENT;
    if (r->info.delta && !r->base)
        return ZNN_ERROR_BASE;
    r->large = size > ZNN_LARGE && !r->info.delta;
    znn_status status = read_parts(r, dst, offset, size);
    if (r->large)
        znn_copy_out_done();
    if (status != ZNN_OK)
        return status;
    if (r->info.delta) {
        const uint8_t *base = (const uint8_t *)r->base + offset;
        uint8_t *out = dst;
        for (uint64_t i = 0; i < size; i++)
            out[i] ^= base[i];
    }
    return ZNN_OK;
}

/* ---- Description ---- */

znn_status znn_zipnn_reader_info(znn_zipnn_reader *r, znn_zipnn_info *info)
{
    if (!r || !info)
        return ZNN_ERROR_ARGUMENT;
    *info = r->info;
    return ZNN_OK;
}

znn_status znn_zipnn_reader_part(znn_zipnn_reader *r, uint64_t index, znn_zipnn_part *part)
{
    if (!r || !part || index >= r->count)
        return ZNN_ERROR_ARGUMENT;
    const znn_zipnn_entry *e = &r->parts[index];
    memset(part, 0, sizeof *part);
    part->name = e->name;
    part->dtype = (znn_dtype)e->dtype;
    part->content_offset = e->content_offset;
    part->content_size = e[1].content_offset - e->content_offset;
    part->stored_offset = e->stored_offset;
    part->stored_size = part->content_size;
    if (e->kind != ZNN_ZIPNN_STREAM)
        return ZNN_OK;
    znn_status status = select_part(r, index);
    if (status != ZNN_OK)
        return status;
    part->is_stream = 1;
    part->stored_size = r->header.stored_size;
    part->shape = r->header.shape;
    part->dimensions = r->header.dimensions;
    return ZNN_OK;
}

/* ---- In memory ---- */

int znn_zipnn_is(const void *src, uint64_t src_size)
{
    return src && src_size >= 2 && memcmp(src, "ZN", 2) == 0;
}

znn_status znn_zipnn_content_size(const void *src, uint64_t src_size, uint64_t *content_size)
{
    znn_zipnn_reader *r = NULL; /* stays so where the arguments are refused */
    if (!content_size)
        return ZNN_ERROR_ARGUMENT;
    znn_status status = znn_zipnn_reader_open(&r, src, src_size, NULL);
    if (status == ZNN_OK)
        *content_size = r->info.content_size;
    znn_zipnn_reader_free(r);
    return status;
}

znn_status znn_zipnn_decompress(void *dst, uint64_t dst_capacity, uint64_t *dst_size, const void *src,
                                uint64_t src_size, const znn_options *options)
{
    if (!dst_size || (!dst && dst_capacity))
        return ZNN_ERROR_ARGUMENT;
    *dst_size = 0;
    znn_zipnn_reader *r;
    znn_status status = znn_zipnn_reader_open(&r, src, src_size, options);
    if (status != ZNN_OK)
        return status;
    if (r->info.content_size > dst_capacity)
        status = ZNN_ERROR_DST_TOO_SMALL;
    else
        status = znn_zipnn_reader_read(r, dst, 0, r->info.content_size);
    if (status == ZNN_OK)
        *dst_size = r->info.content_size;
    znn_zipnn_reader_free(r);
    return status;
}
