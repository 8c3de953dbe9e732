/* The streaming decoder. Blocks are gathered into a batch, decoded at once, one
 * a worker, and handed over in order. Nothing is believed before it is checked,
 * and memory depends on the header's chunk size alone. */
#include "frame/layout.h"
#include "frame/workers.h"

#define SLOTS_A_WORKER 2
#define SLACK 64 /* decoders may read this far past a payload */

typedef struct {
    uint8_t *payload; /* own buffer */
    uint8_t *content; /* own buffer */
    const uint8_t *from;
    uint8_t *to;
    size_t readable;
    znn_chunk chunk;
    uint64_t input_offset, content_offset;
    znn_status status;
} slot;

struct znn_decoder {
    znn_options options;
    znn_allocator allocator;
    znn_workers workers;
    unsigned chunk_log; /* that the workers and slots are made for; 0: none */
    slot *slots;
    size_t slots_count;
    size_t filled, emitted, emitted_bytes;
    uint8_t *gathered; /* header and extensions, block header, table part, trailer */
    size_t gathered_size;
    znn_header header;
    znn_hasher whole, table_expected, table_found;
    uint64_t chunks, content_size, frame_size, table_left;
    uint64_t input_offset, content_offset, error_input, error_content;
    enum { HEADER, EXTENSIONS, BLOCK, CHUNK, PAYLOAD, DECODE, EMIT, TABLE, TRAILER } state;
    znn_status failed;
};

#define GATHER_ROOM (ZNN_HEADER_SIZE + ZNN_EXTENSIONS_MAX)

static void free_slots(znn_decoder *d)
{
    if (d->chunk_log)
        znn_workers_free(&d->workers);
    for (size_t i = 0; d->slots && i < d->slots_count; i++) {
        znn_dealloc(&d->allocator, d->slots[i].payload);
        znn_dealloc(&d->allocator, d->slots[i].content);
    }
    znn_dealloc(&d->allocator, d->slots);
    d->slots = NULL;
    d->chunk_log = 0;
}

void znn_decoder_free(znn_decoder *d)
{
    if (!d)
        return;
    free_slots(d);
    znn_dealloc(&d->allocator, d->gathered);
    znn_dealloc(&d->allocator, d);
}

znn_status znn_decoder_new(znn_decoder **decoder, const znn_options *options)
{
    if (!decoder)
        return ZNN_ERROR_ARGUMENT;
    *decoder = NULL;
    znn_options checked;
    znn_status status = znn_options_check(&checked, options);
    if (status != ZNN_OK)
        return status;
    znn_allocator allocator = znn_allocator_from(&checked);
    znn_decoder *d = znn_alloc(&allocator, sizeof *d);
    if (!d)
        return ZNN_ERROR_MEMORY;
    memset(d, 0, sizeof *d);
    d->options = checked;
    d->allocator = allocator;
    d->gathered = znn_alloc(&allocator, GATHER_ROOM);
    if (!d->gathered) {
        znn_decoder_free(d);
        return ZNN_ERROR_MEMORY;
    }
    *decoder = d;
    return ZNN_OK;
}

void znn_decoder_position(const znn_decoder *d, uint64_t *input_offset, uint64_t *content_offset)
{
    if (input_offset)
        *input_offset = d->failed ? d->error_input : d->input_offset;
    if (content_offset)
        *content_offset = d->failed ? d->error_content : d->content_offset;
}

static znn_status make_slots(znn_decoder *d)
{
    size_t chunk_max = (size_t)1 << d->header.chunk_log;
    if (d->options.memory_limit / 4 < chunk_max)
        return ZNN_ERROR_LIMIT;
    if (d->chunk_log == d->header.chunk_log)
        return ZNN_OK;
    free_slots(d);
    if (!znn_workers_init(&d->workers, d->options.threads, chunk_max, 0, &d->allocator))
        return ZNN_ERROR_MEMORY;
    d->chunk_log = d->header.chunk_log;
    d->slots_count = d->workers.count == 1 ? 1 : SLOTS_A_WORKER * (size_t)d->workers.count;
    d->slots = znn_alloc(&d->allocator, d->slots_count * sizeof *d->slots);
    if (!d->slots)
        return ZNN_ERROR_MEMORY;
    memset(d->slots, 0, d->slots_count * sizeof *d->slots);
    for (size_t i = 0; i < d->slots_count; i++) {
        d->slots[i].payload = znn_alloc(&d->allocator, chunk_max + SLACK);
        d->slots[i].content = znn_alloc(&d->allocator, chunk_max);
        if (!d->slots[i].payload || !d->slots[i].content)
            return ZNN_ERROR_MEMORY;
    }
    return ZNN_OK;
}

/* Gather `size` bytes; false if the input has not that many yet. */
static bool gather(znn_decoder *d, znn_in_buffer *in, size_t size)
{
    size_t n = ZNN_MIN(size - d->gathered_size, in->size - in->pos);
    if (n)
        memcpy(d->gathered + d->gathered_size, (const uint8_t *)in->src + in->pos, n);
    d->gathered_size += n;
    in->pos += n;
    d->input_offset += n;
    return d->gathered_size == size;
}

static void decode_one(void *argument, size_t index, unsigned worker)
{
    znn_decoder *d = argument;
    slot *s = &d->slots[index];
    s->status = znn_chunk_decode(d->workers.coders[worker], s->to, s->from, s->readable, &s->chunk,
                                 d->options.checksum && d->header.checksums, false);
}

/* Decode what was gathered, straight to out while it has room. */
static znn_status decode_batch(znn_decoder *d, znn_out_buffer *out)
{
    size_t room = out->size - out->pos, at = 0;
    for (size_t i = 0; i < d->filled; i++) {
        slot *s = &d->slots[i];
        bool direct = at + s->chunk.content_size <= room;
        s->to = direct ? (uint8_t *)out->dst + out->pos + at : s->content;
        if (!direct)
            room = at; /* what follows must wait for it */
        else
            at += s->chunk.content_size;
    }
    znn_pool_run(d->workers.pool, decode_one, d, d->filled);
    for (size_t i = 0; i < d->filled; i++) {
        slot *s = &d->slots[i];
        if (s->status != ZNN_OK) {
            d->error_input = s->input_offset;
            d->error_content = s->content_offset;
            return s->status;
        }
    }
    d->emitted = d->emitted_bytes = 0;
    for (; d->emitted < d->filled && d->slots[d->emitted].to != d->slots[d->emitted].content; d->emitted++)
        out->pos += d->slots[d->emitted].chunk.content_size;
    return ZNN_OK;
}

static bool emit_batch(znn_decoder *d, znn_out_buffer *out)
{
    for (; d->emitted < d->filled; d->emitted++, d->emitted_bytes = 0) {
        slot *s = &d->slots[d->emitted];
        size_t n = ZNN_MIN(s->chunk.content_size - d->emitted_bytes, out->size - out->pos);
        if (n)
            memcpy((uint8_t *)out->dst + out->pos, s->content + d->emitted_bytes, n);
        out->pos += n;
        d->emitted_bytes += n;
        if (d->emitted_bytes < s->chunk.content_size)
            return false;
    }
    d->filled = d->emitted = 0;
    return true;
}

static znn_status begin_frame(znn_decoder *d)
{
    znn_status status = znn_extensions_check(d->gathered, d->header.extensions);
    if (status != ZNN_OK || (status = make_slots(d)) != ZNN_OK)
        return status;
    static const uint8_t end_header[ZNN_END_HEADER_SIZE] = {ZNN_BLOCK_END};
    znn_hasher_begin(&d->whole);
    znn_hasher_begin(&d->table_expected);
    znn_hasher_update(&d->table_expected, end_header, sizeof end_header);
    d->frame_size = ZNN_HEADER_SIZE + d->header.extensions;
    d->chunks = d->content_size = 0;
    return ZNN_OK;
}

static znn_status begin_chunk(znn_decoder *d)
{
    slot *s = &d->slots[d->filled];
    bool starts_segment;
    znn_status status = znn_block_read(&s->chunk, &starts_segment, d->gathered, &d->header);
    if (status != ZNN_OK)
        return status;
    if (d->header.content_size != ZNN_SIZE_UNKNOWN &&
        s->chunk.content_size > d->header.content_size - d->content_size)
        return ZNN_ERROR_FORMAT;
    uint8_t entry[ZNN_TABLE_ENTRY_SIZE];
    znn_store32(entry, s->chunk.content_size);
    znn_store32(entry + 4, s->chunk.stored_size + ZNN_BLOCK_HEADER_SIZE);
    znn_hasher_update(&d->table_expected, entry, sizeof entry);
    if (d->header.checksums)
        znn_hasher_update(&d->whole, d->gathered, ZNN_BLOCK_HEADER_SIZE);
    s->input_offset = d->input_offset - ZNN_BLOCK_HEADER_SIZE;
    s->content_offset = d->content_offset;
    d->content_offset += s->chunk.content_size;
    d->content_size += s->chunk.content_size;
    d->frame_size += ZNN_BLOCK_HEADER_SIZE + (uint64_t)s->chunk.stored_size;
    d->chunks++;
    return ZNN_OK;
}

static znn_status end_frame(znn_decoder *d)
{
    znn_trailer t;
    znn_status status = znn_trailer_read(&t, d->gathered);
    if (status != ZNN_OK)
        return status;
    d->frame_size += ZNN_END_HEADER_SIZE + d->chunks * ZNN_TABLE_ENTRY_SIZE + ZNN_TRAILER_SIZE;
    if (znn_hasher_end(&d->table_expected) != znn_hasher_end(&d->table_found) ||
        !znn_trailer_check(d->gathered, &d->table_found))
        return ZNN_ERROR_CHECKSUM;
    if (t.chunks != d->chunks || t.content_size != d->content_size || t.frame_size != d->frame_size ||
        (d->header.content_size != ZNN_SIZE_UNKNOWN && d->header.content_size != d->content_size))
        return ZNN_ERROR_FORMAT;
    if (!znn_checksum_fits(t.checksum, d->header.checksums ? znn_hasher_end(&d->whole) : 0))
        return ZNN_ERROR_CHECKSUM;
    return ZNN_OK;
}

static znn_status run(znn_decoder *d, znn_out_buffer *out, znn_in_buffer *in, int *frame_ended)
{
    znn_status status;
    *frame_ended = 0;
    for (;;) {
        switch (d->state) {
        case HEADER: {
            if (!gather(d, in, ZNN_HEADER_SIZE)) {
                if (!znn_has_magic(d->gathered, d->gathered_size))
                    return ZNN_ERROR_FORMAT;
                return ZNN_OK;
            }
            if ((status = znn_header_read(&d->header, d->gathered)) != ZNN_OK)
                return status;
            d->state = EXTENSIONS;
            break;
        }
        case EXTENSIONS:
            if (!gather(d, in, ZNN_HEADER_SIZE + d->header.extensions))
                return ZNN_OK;
            if ((status = begin_frame(d)) != ZNN_OK)
                return status;
            d->gathered_size = 0;
            d->filled = d->emitted = 0;
            d->state = BLOCK;
            break;
        case BLOCK:
            if (!gather(d, in, ZNN_END_HEADER_SIZE))
                return ZNN_OK;
            if (d->gathered[0] == ZNN_BLOCK_CHUNK) {
                d->state = CHUNK;
                break;
            }
            for (unsigned i = 0; i < ZNN_END_HEADER_SIZE; i++)
                if (d->gathered[i] != (i ? 0 : ZNN_BLOCK_END))
                    return ZNN_ERROR_UNSUPPORTED;
            if (d->filled) { /* the content comes first; then this block again */
                d->state = DECODE;
                break;
            }
            znn_hasher_begin(&d->table_found);
            znn_hasher_update(&d->table_found, d->gathered, ZNN_END_HEADER_SIZE);
            d->table_left = d->chunks * ZNN_TABLE_ENTRY_SIZE;
            d->gathered_size = 0;
            d->state = TABLE;
            break;
        case CHUNK:
            if (!gather(d, in, ZNN_BLOCK_HEADER_SIZE))
                return ZNN_OK;
            if ((status = begin_chunk(d)) != ZNN_OK)
                return status;
            d->gathered_size = 0;
            d->state = PAYLOAD;
            break;
        case PAYLOAD: {
            slot *s = &d->slots[d->filled];
            size_t left = in->size - in->pos, wanted = s->chunk.stored_size - d->gathered_size;
            size_t n = ZNN_MIN(wanted, left);
            if (d->slots_count == 1 && d->gathered_size == 0 && left >= wanted) {
                s->from = (const uint8_t *)in->src + in->pos; /* decoded before this call returns */
                s->readable = left;
            } else {
                if (n)
                    memcpy(s->payload + d->gathered_size, (const uint8_t *)in->src + in->pos, n);
                s->from = s->payload;
                s->readable = s->chunk.stored_size + SLACK;
            }
            in->pos += n;
            d->input_offset += n;
            d->gathered_size += n;
            if (n < wanted)
                return ZNN_OK;
            d->gathered_size = 0;
            d->filled++;
            d->state = d->filled == d->slots_count ? DECODE : BLOCK;
            break;
        }
        case DECODE:
            if ((status = decode_batch(d, out)) != ZNN_OK)
                return status;
            d->state = EMIT;
            break;
        case EMIT:
            if (!emit_batch(d, out))
                return ZNN_OK;
            d->state = BLOCK;
            break;
        case TABLE:
            while (d->table_left && in->pos < in->size) {
                size_t n = (size_t)ZNN_MIN(d->table_left, in->size - in->pos);
                znn_hasher_update(&d->table_found, (const uint8_t *)in->src + in->pos, n);
                in->pos += n;
                d->input_offset += n;
                d->table_left -= n;
            }
            if (d->table_left)
                return ZNN_OK;
            d->state = TRAILER;
            break;
        case TRAILER:
            if (!gather(d, in, ZNN_TRAILER_SIZE))
                return ZNN_OK;
            if ((status = end_frame(d)) != ZNN_OK)
                return status;
            d->gathered_size = 0;
            d->state = HEADER;
            *frame_ended = 1;
            return ZNN_OK;
        }
    }
}

znn_status znn_decoder_run(znn_decoder *d, znn_out_buffer *out, znn_in_buffer *in, int *frame_ended)
{
    int ended;
    if (!d || !out || !in || out->pos > out->size || in->pos > in->size)
        return ZNN_ERROR_ARGUMENT;
    if (d->failed == ZNN_OK) {
        d->error_input = UINT64_MAX;
        d->failed = run(d, out, in, frame_ended ? frame_ended : &ended);
        if (d->failed && d->error_input == UINT64_MAX) {
            /* Where the header, block or trailer that was refused begins. */
            d->error_input = d->input_offset - d->gathered_size;
            d->error_content = d->content_offset;
        }
    }
    return d->failed;
}
