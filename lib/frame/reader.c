/* Random access, description, and one-shot decoding: all through the chunk
 * tables at the frames' ends. */
#include "base/cpu.h"
#include "frame/layout.h"
#include "frame/workers.h"

#define SLACK 64
#define FRAMES_MAX (1u << 20)
/* Workers take neighbours, but so few that all end at about the same time. */
#define RUN_MAX 8
#define RUNS_A_WORKER 16

typedef struct {
    uint64_t content_offset, stored_offset;
} entry;

typedef struct {
    uint64_t begin, end; /* in the file */
    znn_trailer trailer;
    znn_header header;
    uint64_t first_chunk;
    _Atomic size_t kept; /* of its chunks, those with a header in znn_reader.headers */
    bool fits;           /* its checksum is that of all of them */
} frame;

struct znn_reader {
    znn_options options;
    znn_allocator allocator;
    const uint8_t *memory; /* or NULL, and then: */
    znn_read_fn read;
    void *opaque;
    uint64_t size;
    entry *entries; /* chunks + 1: the last one only tells where the content ends */
    uint8_t *headers; /* of the chunks, as far as they were read; the others begin with 0, which none does */
    uint64_t chunks;
    frame *frames;
    size_t frames_count, frames_room;
    uint64_t content_size;
    unsigned chunk_log; /* the largest of all frames */
    bool workers_made;
    znn_workers workers;
    uint8_t **payloads, **contents; /* a buffer of each for each worker */
    /* the range that is being read */
    uint8_t *dst;
    uint64_t offset, end, first, count; /* and its chunks */
    size_t run; /* chunks that a worker takes at a time */
    _Atomic int status;
};

static znn_status fetch(znn_reader *r, void *dst, uint64_t offset, size_t size)
{
    if (offset > r->size || size > r->size - offset)
        return ZNN_ERROR_TRUNCATED;
    if (r->memory) {
        memcpy(dst, r->memory + offset, size);
        return ZNN_OK;
    }
    return r->read(r->opaque, offset, dst, size) == 0 ? ZNN_OK : ZNN_ERROR_IO;
}

static void free_workers(znn_reader *r)
{
    for (unsigned i = 0; r->workers_made && i < r->workers.count; i++) {
        if (r->payloads)
            znn_dealloc(&r->allocator, r->payloads[i]);
        if (r->contents)
            znn_dealloc(&r->allocator, r->contents[i]);
    }
    znn_dealloc(&r->allocator, r->payloads);
    znn_dealloc(&r->allocator, r->contents);
    if (r->workers_made)
        znn_workers_free(&r->workers);
    r->payloads = r->contents = NULL;
    r->workers_made = false;
}

void znn_reader_free(znn_reader *r)
{
    if (!r)
        return;
    free_workers(r);
    znn_dealloc(&r->allocator, r->headers);
    znn_dealloc(&r->allocator, r->entries);
    znn_dealloc(&r->allocator, r->frames);
    znn_dealloc(&r->allocator, r);
}

/* The frame that ends at `end`, by its trailer. */
static znn_status find_frame(znn_reader *r, uint64_t end, frame *f)
{
    const uint64_t smallest = ZNN_HEADER_SIZE + ZNN_END_HEADER_SIZE + ZNN_TRAILER_SIZE;
    uint8_t bytes[ZNN_TRAILER_SIZE], head[ZNN_HEADER_SIZE];
    znn_status status;
    if (end < smallest)
        return ZNN_ERROR_TRUNCATED;
    if ((status = fetch(r, bytes, end - ZNN_TRAILER_SIZE, sizeof bytes)) != ZNN_OK)
        return status;
    /* No trailer there: the frame was cut off, or something follows it. */
    if ((status = znn_trailer_read(&f->trailer, bytes)) != ZNN_OK)
        return status == ZNN_ERROR_FORMAT ? ZNN_ERROR_TRUNCATED : status;
    const uint64_t size = f->trailer.frame_size;
    if (size > end || size < smallest ||
        f->trailer.chunks > (size - smallest) / (ZNN_BLOCK_HEADER_SIZE + ZNN_TABLE_ENTRY_SIZE))
        return ZNN_ERROR_FORMAT;
    f->begin = end - size;
    f->end = end;
    f->kept = 0;
    f->fits = false;
    if ((status = fetch(r, head, f->begin, sizeof head)) != ZNN_OK ||
        (status = znn_header_read(&f->header, head)) != ZNN_OK)
        return status;
    if (f->header.extensions > size - smallest - f->trailer.chunks * ZNN_TABLE_ENTRY_SIZE)
        return ZNN_ERROR_FORMAT;
    if ((uint64_t)1 << f->header.chunk_log > r->options.memory_limit / 4)
        return ZNN_ERROR_LIMIT;
    uint8_t *extended = znn_alloc(&r->allocator, ZNN_HEADER_SIZE + (size_t)f->header.extensions);
    if (!extended)
        return ZNN_ERROR_MEMORY;
    status = fetch(r, extended, f->begin, ZNN_HEADER_SIZE + (size_t)f->header.extensions);
    if (status == ZNN_OK)
        status = znn_extensions_check(extended, f->header.extensions);
    znn_dealloc(&r->allocator, extended);
    return status;
}

/* The frames, last to first, then turned round. */
static znn_status find_frames(znn_reader *r)
{
    for (uint64_t end = r->size; end > 0;) {
        if (r->frames_count == r->frames_room) {
            size_t room = r->frames_room ? 2 * r->frames_room : 1;
            frame *more = r->frames_count < FRAMES_MAX ? znn_alloc(&r->allocator, room * sizeof *more) : NULL;
            if (!more)
                return r->frames_count < FRAMES_MAX ? ZNN_ERROR_MEMORY : ZNN_ERROR_LIMIT;
            if (r->frames_count)
                memcpy(more, r->frames, r->frames_count * sizeof *more);
            znn_dealloc(&r->allocator, r->frames);
            r->frames = more;
            r->frames_room = room;
        }
        frame *f = &r->frames[r->frames_count];
        znn_status status = find_frame(r, end, f);
        if (status != ZNN_OK)
            return status;
        r->chunk_log = ZNN_MAX(r->chunk_log, f->header.chunk_log);
        if (f->trailer.content_size > UINT64_MAX / 2 - r->content_size)
            return ZNN_ERROR_FORMAT;
        r->content_size += f->trailer.content_size;
        r->chunks += f->trailer.chunks; /* cannot overflow: bounded by the file's size */
        r->frames_count++;
        end = f->begin;
    }
    for (size_t i = 0; i < r->frames_count / 2; i++) {
        frame swap = r->frames[i];
        r->frames[i] = r->frames[r->frames_count - 1 - i];
        r->frames[r->frames_count - 1 - i] = swap;
    }
    return r->frames_count ? ZNN_OK : ZNN_ERROR_TRUNCATED;
}

/* Read and check a frame's table into r->entries (if there are any), from entry `at` on. */
static znn_status read_table(znn_reader *r, const frame *f, uint64_t at, uint64_t content)
{
    uint8_t part[512 * ZNN_TABLE_ENTRY_SIZE];
    znn_hasher hasher;
    znn_status status;
    const uint64_t chunks = f->trailer.chunks;
    const uint64_t blocks_end = f->end - ZNN_TRAILER_SIZE - chunks * ZNN_TABLE_ENTRY_SIZE - ZNN_END_HEADER_SIZE;
    uint64_t from = blocks_end, stored = f->begin + ZNN_HEADER_SIZE + f->header.extensions;
    const uint64_t content_begin = content;
    if ((status = fetch(r, part, from, ZNN_END_HEADER_SIZE)) != ZNN_OK)
        return status;
    if (znn_load64(part) != ZNN_BLOCK_END)
        return ZNN_ERROR_FORMAT;
    znn_hasher_begin(&hasher);
    znn_hasher_update(&hasher, part, ZNN_END_HEADER_SIZE);
    from += ZNN_END_HEADER_SIZE;
    for (uint64_t i = 0; i < chunks;) {
        size_t n = (size_t)ZNN_MIN(chunks - i, sizeof part / ZNN_TABLE_ENTRY_SIZE);
        if ((status = fetch(r, part, from, n * ZNN_TABLE_ENTRY_SIZE)) != ZNN_OK)
            return status;
        znn_hasher_update(&hasher, part, n * ZNN_TABLE_ENTRY_SIZE);
        from += n * ZNN_TABLE_ENTRY_SIZE;
        for (size_t k = 0; k < n; k++, i++) {
            uint32_t content_size = znn_load32(part + 8 * k), stored_size = znn_load32(part + 8 * k + 4);
            if (content_size == 0 || content_size > 1u << f->header.chunk_log || stored_size < ZNN_BLOCK_HEADER_SIZE ||
                stored_size > blocks_end - stored)
                return ZNN_ERROR_FORMAT;
            if (r->entries)
                r->entries[at + i] = (entry){content, stored};
            content += content_size;
            stored += stored_size;
        }
    }
    uint8_t bytes[ZNN_TRAILER_SIZE];
    if ((status = fetch(r, bytes, f->end - ZNN_TRAILER_SIZE, sizeof bytes)) != ZNN_OK)
        return status;
    if (!znn_trailer_check(bytes, &hasher))
        return ZNN_ERROR_CHECKSUM;
    if (stored != blocks_end || content - content_begin != f->trailer.content_size ||
        (f->header.content_size != ZNN_SIZE_UNKNOWN && f->trailer.content_size != f->header.content_size))
        return ZNN_ERROR_FORMAT;
    return ZNN_OK;
}

/* A frame's own checksum, over the headers of its chunks, once all of them were read: each chunk has one of its own,
 * but only this one finds chunks that have changed places. */
static znn_status check_frame(const znn_reader *r, frame *f)
{
    if (f->fits || f->kept != f->trailer.chunks)
        return ZNN_OK;
    const uint8_t *headers = r->headers + f->first_chunk * ZNN_BLOCK_HEADER_SIZE;
    const uint64_t sum =
        f->header.checksums ? znn_hash(headers, (size_t)f->trailer.chunks * ZNN_BLOCK_HEADER_SIZE) : 0;
    f->fits = znn_checksum_fits(f->trailer.checksum, sum);
    return f->fits ? ZNN_OK : ZNN_ERROR_CHECKSUM;
}

/* A reader that has looked at nothing yet. */
static znn_status prepare(znn_reader *r, const uint8_t *memory, znn_read_fn read, void *opaque, uint64_t size,
                          const znn_options *options)
{
    memset(r, 0, sizeof *r);
    znn_status status = znn_options_check(&r->options, options);
    if (status != ZNN_OK)
        return status;
    r->allocator = znn_allocator_from(&r->options);
    r->memory = memory;
    r->read = read;
    r->opaque = opaque;
    r->size = size;
    return ZNN_OK;
}

/* Not ours: says more than that no trailer was found. */
static znn_status check_magic(znn_reader *r)
{
    uint8_t first[4];
    const size_t n = (size_t)ZNN_MIN(r->size, sizeof first);
    const znn_status status = n ? fetch(r, first, 0, n) : ZNN_OK;
    return status == ZNN_OK && !znn_has_magic(first, n) ? ZNN_ERROR_FORMAT : status;
}

static znn_status open_reader(znn_reader **reader, const uint8_t *memory, znn_read_fn read, void *opaque,
                              uint64_t size, const znn_options *options)
{
    *reader = NULL;
    znn_reader prepared;
    znn_status status = prepare(&prepared, memory, read, opaque, size, options);
    if (status != ZNN_OK)
        return status;
    const znn_allocator allocator = prepared.allocator;
    znn_reader *r = znn_alloc(&allocator, sizeof *r);
    if (!r)
        return ZNN_ERROR_MEMORY;
    *r = prepared;
    status = check_magic(r);
    if (status == ZNN_OK)
        status = find_frames(r);
    if (status == ZNN_OK && r->chunks >= SIZE_MAX / ZNN_BLOCK_HEADER_SIZE - 1)
        status = ZNN_ERROR_MEMORY;
    if (status == ZNN_OK) {
        r->entries = znn_alloc(&allocator, (size_t)(r->chunks + 1) * sizeof(entry));
        r->headers = znn_alloc(&allocator, (size_t)(r->chunks + 1) * ZNN_BLOCK_HEADER_SIZE);
        status = r->entries && r->headers ? ZNN_OK : ZNN_ERROR_MEMORY;
    }
    if (status == ZNN_OK)
        memset(r->headers, 0, (size_t)r->chunks * ZNN_BLOCK_HEADER_SIZE);
    uint64_t at = 0, content = 0;
    for (size_t i = 0; status == ZNN_OK && i < r->frames_count; i++) {
        r->frames[i].first_chunk = at;
        status = read_table(r, &r->frames[i], at, content);
        if (status == ZNN_OK && r->frames[i].trailer.chunks == 0)
            status = check_frame(r, &r->frames[i]); /* nothing else will be read of it */
        at += r->frames[i].trailer.chunks;
        content += r->frames[i].trailer.content_size;
    }
    if (status != ZNN_OK) {
        znn_reader_free(r);
        return status;
    }
    r->entries[at] = (entry){content, size};
    *reader = r;
    return ZNN_OK;
}

znn_status znn_reader_open(znn_reader **reader, const void *src, uint64_t src_size, const znn_options *options)
{
    if (!reader || (!src && src_size) || src_size > SIZE_MAX)
        return ZNN_ERROR_ARGUMENT;
    return open_reader(reader, src_size ? src : (const void *)"", NULL, NULL, src_size, options);
}

znn_status znn_reader_open_fn(znn_reader **reader, znn_read_fn read, void *opaque, uint64_t size,
                              const znn_options *options)
{
    if (!reader || !read)
        return ZNN_ERROR_ARGUMENT;
    return open_reader(reader, NULL, read, opaque, size, options);
}

uint64_t znn_reader_size(const znn_reader *r)
{
    return r->content_size;
}

static frame *frame_of(const znn_reader *r, uint64_t chunk)
{
    size_t low = 0, high = r->frames_count; /* the last frame that begins at or before it, and is not empty */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (r->frames[middle].first_chunk <= chunk)
            low = middle;
        else
            high = middle;
    }
    return &r->frames[low];
}

/* The last chunk of a frame ends where its end block begins. */
static uint64_t stored_end(const znn_reader *r, uint64_t chunk)
{
    const frame *f = frame_of(r, chunk);
    if (chunk - f->first_chunk + 1 < f->trailer.chunks)
        return r->entries[chunk + 1].stored_offset;
    return f->end - ZNN_TRAILER_SIZE - f->trailer.chunks * ZNN_TABLE_ENTRY_SIZE - ZNN_END_HEADER_SIZE;
}

static znn_status read_block_header(znn_reader *r, uint64_t index, znn_chunk *chunk, bool *starts_segment,
                                    bool *checksums)
{
    uint8_t header[ZNN_BLOCK_HEADER_SIZE];
    frame *f = frame_of(r, index);
    *checksums = f->header.checksums;
    znn_status status = fetch(r, header, r->entries[index].stored_offset, sizeof header);
    if (status == ZNN_OK)
        status = znn_block_read(chunk, starts_segment, header, &f->header);
    if (status != ZNN_OK)
        return status;
    /* The table and the blocks must agree. */
    uint64_t stored = stored_end(r, index) - r->entries[index].stored_offset;
    if (chunk->stored_size + (uint64_t)ZNN_BLOCK_HEADER_SIZE != stored ||
        chunk->content_size != r->entries[index + 1].content_offset - r->entries[index].content_offset)
        return ZNN_ERROR_FORMAT;
    uint8_t *kept = r->headers + index * ZNN_BLOCK_HEADER_SIZE; /* nobody else reads this chunk at this time */
    f->kept += kept[0] == 0;
    memcpy(kept, header, sizeof header);
    return ZNN_OK;
}

/* Of the frames with these chunks, those that were read whole by now. */
static znn_status check_frames(znn_reader *r, uint64_t first, uint64_t count)
{
    znn_status status = ZNN_OK;
    for (frame *f = frame_of(r, first), *end = r->frames + r->frames_count;
         status == ZNN_OK && f < end && f->first_chunk < first + count; f++)
        status = check_frame(r, f);
    return status;
}

static znn_status make_workers(znn_reader *r)
{
    if (r->workers_made)
        return ZNN_OK;
    const size_t chunk_max = (size_t)1 << r->chunk_log;
    if (!znn_workers_init(&r->workers, r->options.threads, chunk_max, 0, &r->allocator))
        return ZNN_ERROR_MEMORY;
    r->workers_made = true;
    const size_t arrays = r->workers.count * sizeof(uint8_t *);
    r->payloads = znn_alloc(&r->allocator, arrays);
    r->contents = znn_alloc(&r->allocator, arrays);
    if (r->payloads)
        memset(r->payloads, 0, arrays);
    if (r->contents)
        memset(r->contents, 0, arrays);
    bool ok = r->payloads && r->contents;
    for (unsigned i = 0; ok && i < r->workers.count; i++) {
        r->contents[i] = znn_alloc(&r->allocator, chunk_max);
        ok = r->contents[i] != NULL;
        if (ok && !r->memory) {
            r->payloads[i] = znn_alloc(&r->allocator, chunk_max + SLACK);
            ok = r->payloads[i] != NULL;
        }
    }
    if (ok)
        return ZNN_OK;
    free_workers(r); /* the next read tries again */
    return ZNN_ERROR_MEMORY;
}

static znn_status read_chunk(znn_reader *r, uint64_t index, unsigned worker)
{
    znn_chunk chunk;
    bool starts_segment, checksums;
    znn_status status = read_block_header(r, index, &chunk, &starts_segment, &checksums);
    if (status != ZNN_OK)
        return status;
    const uint64_t payload_at = r->entries[index].stored_offset + ZNN_BLOCK_HEADER_SIZE;
    const uint8_t *payload;
    size_t readable;
    if (r->memory) {
        payload = r->memory + payload_at;
        readable = (size_t)(r->size - payload_at);
    } else {
        payload = r->payloads[worker];
        readable = chunk.stored_size + SLACK;
        if ((status = fetch(r, r->payloads[worker], payload_at, chunk.stored_size)) != ZNN_OK)
            return status;
    }
    const uint64_t begin = r->entries[index].content_offset, end = begin + chunk.content_size;
    const bool whole = begin >= r->offset && end <= r->end;
    uint8_t *to = whole ? r->dst + (begin - r->offset) : r->contents[worker];
    status = znn_chunk_decode(r->workers.coders[worker], to, payload, readable, &chunk,
                              r->options.checksum && checksums, whole && r->end - r->offset > ZNN_LARGE);
    if (status != ZNN_OK || whole)
        return status;
    const uint64_t from = ZNN_MAX(begin, r->offset), until = ZNN_MIN(end, r->end);
    memcpy(r->dst + (from - r->offset), to + (from - begin), (size_t)(until - from));
    return ZNN_OK;
}

static void read_run(void *argument, size_t index, unsigned worker)
{
    znn_reader *r = argument;
    const uint64_t begin = (uint64_t)index * r->run, end = ZNN_MIN(begin + r->run, r->count);
    for (uint64_t i = begin; i < end && r->status == ZNN_OK; i++) {
        const znn_status status = read_chunk(r, r->first + i, worker);
        if (status != ZNN_OK)
            r->status = (int)status;
    }
}

znn_status znn_reader_read(znn_reader *r, void *dst, uint64_t offset, uint64_t size)
{
    if (!r || (!dst && size) || offset > r->content_size || size > r->content_size - offset)
        return ZNN_ERROR_ARGUMENT;
    if (size == 0)
        return ZNN_OK;
    znn_status status = make_workers(r);
    if (status != ZNN_OK)
        return status;
    uint64_t low = 0, high = r->chunks; /* the last chunk that begins at or before offset */
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (r->entries[middle].content_offset <= offset)
            low = middle;
        else
            high = middle;
    }
    r->dst = dst;
    r->offset = offset;
    r->end = offset + size;
    r->first = low;
    r->status = ZNN_OK;
    uint64_t count = 0;
    while (low + count < r->chunks && r->entries[low + count].content_offset < r->end)
        count++;
    r->count = count;
    r->run = (size_t)ZNN_MAX(ZNN_MIN(count / (RUNS_A_WORKER * r->workers.count), RUN_MAX), 1);
    znn_pool_run(r->workers.pool, read_run, r, (size_t)((count + r->run - 1) / r->run));
    return r->status == ZNN_OK ? check_frames(r, low, count) : (znn_status)r->status;
}

znn_status znn_reader_info(znn_reader *r, znn_frame_info *info)
{
    if (!r || !info)
        return ZNN_ERROR_ARGUMENT;
    memset(info, 0, sizeof *info);
    for (uint64_t i = 0; i < r->chunks; i++) {
        znn_chunk_info c;
        znn_status status = znn_reader_chunk(r, i, &c);
        if (status != ZNN_OK)
            return status;
        info->segments += (uint64_t)c.starts_segment;
    }
    znn_status status = check_frames(r, 0, r->chunks);
    if (status != ZNN_OK)
        return status;
    info->frames = r->frames_count;
    info->chunks = r->chunks;
    info->content_size = r->content_size;
    info->stored_size = r->size;
    info->checksum = r->frames[0].trailer.checksum;
    info->chunk_max = 1u << r->chunk_log;
    info->version = (int)r->frames[0].header.version;
    info->has_checksum = r->frames[0].header.checksums;
    return ZNN_OK;
}

znn_status znn_reader_chunk(znn_reader *r, uint64_t index, znn_chunk_info *info)
{
    if (!r || !info || index >= r->chunks)
        return ZNN_ERROR_ARGUMENT;
    znn_chunk chunk;
    bool starts_segment, checksums;
    znn_status status = read_block_header(r, index, &chunk, &starts_segment, &checksums);
    if (status != ZNN_OK)
        return status;
    info->content_offset = r->entries[index].content_offset;
    info->content_size = chunk.content_size;
    info->stored_offset = r->entries[index].stored_offset;
    info->stored_size = chunk.stored_size + (uint64_t)ZNN_BLOCK_HEADER_SIZE;
    info->checksum = chunk.checksum;
    info->dtype = (znn_dtype)chunk.dtype;
    info->method = (znn_method)chunk.method;
    info->starts_segment = starts_segment;
    return ZNN_OK;
}

/* ---- one shot ---- */

int znn_is_frame(const void *src, uint64_t src_size)
{
    return src && src_size >= 4 && znn_has_magic(src, 4);
}

/* Frame by frame from the last one on, which takes no memory however many there are. */
static znn_status measure(znn_reader *r, uint64_t *content_size)
{
    uint64_t content = 0;
    znn_status status = r->size ? check_magic(r) : ZNN_ERROR_TRUNCATED;
    for (uint64_t end = r->size; status == ZNN_OK && end > 0;) {
        frame f;
        if ((status = find_frame(r, end, &f)) != ZNN_OK || (status = read_table(r, &f, 0, 0)) != ZNN_OK)
            break;
        if (f.trailer.content_size > UINT64_MAX / 2 - content)
            return ZNN_ERROR_FORMAT;
        content += f.trailer.content_size;
        end = f.begin;
    }
    *content_size = status == ZNN_OK ? content : 0;
    return status;
}

znn_status znn_content_size(const void *src, uint64_t src_size, uint64_t *content_size)
{
    if (!content_size || (!src && src_size) || src_size > SIZE_MAX)
        return ZNN_ERROR_ARGUMENT;
    znn_reader r;
    znn_status status = prepare(&r, src_size ? src : (const void *)"", NULL, NULL, src_size, NULL);
    return status == ZNN_OK ? measure(&r, content_size) : status;
}

znn_status znn_content_size_fn(znn_read_fn read, void *opaque, uint64_t size, const znn_options *options,
                               uint64_t *content_size)
{
    if (!content_size || !read)
        return ZNN_ERROR_ARGUMENT;
    znn_reader r;
    znn_status status = prepare(&r, NULL, read, opaque, size, options);
    return status == ZNN_OK ? measure(&r, content_size) : status;
}

znn_status znn_decompress(void *dst, uint64_t dst_capacity, uint64_t *dst_size, const void *src, uint64_t src_size,
                          const znn_options *options)
{
    if (!dst_size || (!dst && dst_capacity))
        return ZNN_ERROR_ARGUMENT;
    znn_reader *r;
    znn_status status = znn_reader_open(&r, src, src_size, options);
    if (status != ZNN_OK)
        return status;
    if (r->content_size > dst_capacity)
        status = ZNN_ERROR_DST_TOO_SMALL;
    else
        status = znn_reader_read(r, dst, 0, r->content_size);
    *dst_size = status == ZNN_OK ? r->content_size : 0;
    znn_reader_free(r);
    return status;
}
