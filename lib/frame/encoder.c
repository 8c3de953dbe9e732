/* The streaming encoder. Input is planned into pieces, which go through a line: several
 * are encoded at once, while those before them are handed out in order. */
#include "frame/encoder.h"

#include "formats/plan.h"
#include "frame/layout.h"
#include "frame/line.h"
#include "frame/workers.h"

#define USUAL_CHUNK_LOG 17 /* or more: what the table is made for */
#define TABLE_AT_ONCE (64u << 20) /* bytes: of some terabytes of content */
#define SLOTS_MORE 2 /* than workers, so that a slow chunk delays the others less */

typedef struct {
    const uint8_t *src; /* of the portion at hand */
    znn_piece piece;
    uint8_t *block; /* own buffer */
    uint8_t *to;    /* where header and payload go: block, or the caller's buffer */
    znn_chunk chunk;
    znn_status status;
} slot;

/* What is planned from, and whether the content ends with it. */
typedef struct {
    const uint8_t *src;
    size_t size, used;
    bool at_end;
} portion;

struct znn_encoder {
    znn_options options;
    znn_allocator allocator;
    unsigned chunk_log;
    znn_workers workers;
    znn_line line;
    znn_plan *plan;
    uint8_t *input; /* what waits for more before it can be planned */
    size_t input_size, input_room;
    slot *slots;
    size_t slots_count;
    portion portion;
    znn_out_buffer *out;  /* the caller's, while the line runs */
    size_t emitted_bytes; /* of the block that is the line's first */
    znn_status take_status, put_status; /* that stopped the line */
    uint8_t *table; /* entries of the chunk table */
    size_t table_size, table_room;
    uint64_t content_size, frame_size;
    znn_hasher whole;
    uint8_t small[ZNN_TRAILER_SIZE]; /* header, end header or trailer on its way out */
    size_t small_size, small_pos;
    size_t table_pos;
    enum { BEGIN, BODY, END_HEADER, TABLE, TRAILER, ENDED } state;
    znn_status failed;
};

void znn_encoder_free(znn_encoder *e)
{
    if (!e)
        return;
    if (e->workers.pool)
        znn_workers_free(&e->workers);
    if (e->line.slots)
        znn_line_destroy(&e->line);
    znn_plan_free(e->plan);
    for (size_t i = 0; e->slots && i < e->slots_count; i++)
        znn_dealloc(&e->allocator, e->slots[i].block);
    znn_dealloc(&e->allocator, e->slots);
    znn_dealloc(&e->allocator, e->input);
    znn_dealloc(&e->allocator, e->table);
    znn_dealloc(&e->allocator, e);
}

static void emit(znn_out_buffer *out, const uint8_t *src, size_t size, size_t *pos)
{
    size_t n = ZNN_MIN(size - *pos, out->size - out->pos);
    if (n)
        memcpy((uint8_t *)out->dst + out->pos, src + *pos, n);
    out->pos += n;
    *pos += n;
}

static bool grow(znn_encoder *e, uint8_t **buffer, size_t used, size_t *room, size_t needed)
{
    if (needed <= *room)
        return true;
    size_t wanted = ZNN_MAX(needed, *room + *room / 2);
    uint8_t *larger = znn_alloc(&e->allocator, wanted);
    if (!larger)
        return false;
    if (used)
        memcpy(larger, *buffer, used);
    znn_dealloc(&e->allocator, *buffer);
    *buffer = larger;
    *room = wanted;
    return true;
}

/* ---- The line's steps ---- */

static bool take_piece(void *argument, size_t index, bool alone)
{
    znn_encoder *e = argument;
    portion *p = &e->portion;
    slot *s = &e->slots[index];
    do {
        if (p->used == p->size || (!p->at_end && p->size - p->used < znn_plan_wants(e->plan)))
            return false;
        s->src = p->src + p->used;
        e->take_status = znn_plan_next(e->plan, s->src, p->size - p->used, p->at_end, &s->piece);
        if (e->take_status != ZNN_OK)
            return false;
    } while (s->piece.size == 0); /* the plan wants to see more */
    p->used += s->piece.size;
    /* It needs no buffer where its place in the caller's is known and has room. */
    const bool direct = alone && e->out->size - e->out->pos >=
                                     ZNN_BLOCK_HEADER_SIZE + znn_chunk_encode_room(s->piece.size);
    s->to = direct ? (uint8_t *)e->out->dst + e->out->pos : s->block;
    return true;
}

static void encode_piece(void *argument, size_t index, unsigned worker)
{
    znn_encoder *e = argument;
    slot *s = &e->slots[index];
    s->status = znn_chunk_encode(e->workers.coders[worker], s->to + ZNN_BLOCK_HEADER_SIZE, s->src, s->piece.size,
                                 s->piece.dtype, e->options.level, e->options.checksum, &s->chunk);
    if (s->status == ZNN_OK)
        znn_block_write(s->to, &s->chunk, s->piece.starts_segment);
}

/* Once for each block, when the first of its bytes is handed out. */
static znn_status account_for(znn_encoder *e, const slot *s)
{
    if (s->status != ZNN_OK)
        return s->status;
    if (!grow(e, &e->table, e->table_size, &e->table_room, e->table_size + ZNN_TABLE_ENTRY_SIZE))
        return ZNN_ERROR_MEMORY;
    const uint32_t stored = s->chunk.stored_size + ZNN_BLOCK_HEADER_SIZE;
    znn_store32(e->table + e->table_size, s->chunk.content_size);
    znn_store32(e->table + e->table_size + 4, stored);
    e->table_size += ZNN_TABLE_ENTRY_SIZE;
    e->frame_size += stored;
    e->content_size += s->chunk.content_size;
    if (e->options.checksum)
        znn_hasher_update(&e->whole, s->to, ZNN_BLOCK_HEADER_SIZE);
    return ZNN_OK;
}

static bool put_block(void *argument, size_t index)
{
    znn_encoder *e = argument;
    const slot *s = &e->slots[index];
    const size_t size = ZNN_BLOCK_HEADER_SIZE + s->chunk.stored_size;
    if (s->to == s->block && e->out->pos == e->out->size)
        return false;
    if (e->emitted_bytes == 0 && (e->put_status = account_for(e, s)) != ZNN_OK)
        return false;
    if (s->to == s->block) {
        emit(e->out, s->block, size, &e->emitted_bytes);
        if (e->emitted_bytes < size)
            return false;
    } else {
        e->out->pos += size;
    }
    e->emitted_bytes = 0;
    return true;
}

static const znn_line_steps line_steps = {take_piece, encode_piece, put_block};

static size_t block_room(const znn_encoder *e)
{
    return ZNN_BLOCK_HEADER_SIZE + znn_chunk_encode_room((size_t)1 << e->chunk_log);
}

znn_status znn_encoder_new(znn_encoder **encoder, const znn_options *options)
{
    if (!encoder)
        return ZNN_ERROR_ARGUMENT;
    *encoder = NULL;
    znn_options checked;
    znn_status status = znn_options_check(&checked, options);
    if (status != ZNN_OK)
        return status;
    if (checked.base)
        return ZNN_ERROR_UNSUPPORTED;
    znn_allocator allocator = znn_allocator_from(&checked);
    znn_encoder *e = znn_alloc(&allocator, sizeof *e);
    if (!e)
        return ZNN_ERROR_MEMORY;
    memset(e, 0, sizeof *e);
    e->options = checked;
    e->allocator = allocator;
    e->chunk_log = znn_chunk_log_for_level(checked.level);
    size_t chunk_max = (size_t)1 << e->chunk_log;
    bool ok = znn_workers_init(&e->workers, checked.threads, chunk_max, 1, &allocator);
    if (ok) {
        e->slots_count = e->workers.count == 1 ? 1 : (size_t)e->workers.count + SLOTS_MORE;
        znn_line_init(&e->line, &line_steps, e, e->slots_count);
        e->slots = znn_alloc(&allocator, e->slots_count * sizeof *e->slots);
        ok = e->slots != NULL;
    }
    for (size_t i = 0; e->slots && i < e->slots_count; i++) {
        e->slots[i].block = znn_alloc(&allocator, block_room(e));
        ok = ok && e->slots[i].block;
    }
    if (!ok) {
        znn_encoder_free(e);
        return ZNN_ERROR_MEMORY;
    }
    *encoder = e;
    return ZNN_OK;
}

void znn_encoder_begin(znn_encoder *e, znn_dtype dtype, uint64_t content_size)
{
    e->options.dtype = dtype;
    e->options.content_size = content_size;
    e->input_size = 0;
    e->failed = ZNN_OK;
    e->state = BEGIN;
}

static znn_status begin_frame(znn_encoder *e)
{
    znn_plan_free(e->plan);
    e->plan = znn_plan_new(e->options.dtype, (size_t)1 << e->chunk_log, &e->allocator);
    if (!e->plan)
        return ZNN_ERROR_MEMORY;
    /* A table that grows is there twice while it is copied: better at once, where a size is told that can be true. */
    const uint64_t entries = e->options.content_size >> USUAL_CHUNK_LOG;
    if (entries <= TABLE_AT_ONCE / ZNN_TABLE_ENTRY_SIZE)
        (void)grow(e, &e->table, 0, &e->table_room, (size_t)entries * ZNN_TABLE_ENTRY_SIZE);
    znn_header header = {.chunk_log = e->chunk_log,
                         .checksums = e->options.checksum,
                         .content_size = e->options.content_size};
    znn_header_write(e->small, &header);
    e->small_size = ZNN_HEADER_SIZE;
    e->small_pos = 0;
    e->content_size = 0;
    e->frame_size = ZNN_HEADER_SIZE;
    e->table_size = 0;
    e->emitted_bytes = 0;
    znn_line_clear(&e->line);
    znn_hasher_begin(&e->whole);
    e->state = BODY;
    return ZNN_OK;
}

/* Encode and hand out what can be of `p`, after what waits; how far it got is in p->used. */
static znn_status run_line(znn_encoder *e, znn_out_buffer *out, portion p, size_t *used)
{
    e->portion = p;
    e->out = out;
    e->take_status = e->put_status = ZNN_OK;
    znn_line_run(&e->line, e->workers.pool);
    *used = e->portion.used;
    return e->put_status != ZNN_OK ? e->put_status : e->take_status;
}

/* Encode and emit all that can be; true in *blocked if out is full. */
static znn_status run_body(znn_encoder *e, znn_out_buffer *out, znn_in_buffer *in, bool flush, bool *blocked)
{
    for (;;) {
        const uint8_t *from = (const uint8_t *)in->src + in->pos;
        const size_t left = in->size - in->pos;
        size_t used = 0;
        /* Enough for every worker, whatever the caller's portions. */
        const size_t wants = ZNN_MAX(znn_plan_wants(e->plan), (e->slots_count + 1) << e->chunk_log);
        znn_status status;
        if (e->input_size == 0 && (flush || left >= wants)) {
            /* Straight from the caller's buffer. */
            status = run_line(e, out, (portion){from, left, 0, flush}, &used);
            in->pos += used;
        } else {
            const size_t n = wants > e->input_size ? ZNN_MIN(left, wants - e->input_size) : 0;
            if (!grow(e, &e->input, e->input_size, &e->input_room, wants))
                return ZNN_ERROR_MEMORY;
            if (n)
                memcpy(e->input + e->input_size, from, n);
            e->input_size += n;
            in->pos += n;
            const bool at_end = flush && in->pos == in->size;
            const bool enough = at_end || e->input_size >= wants;
            status = run_line(e, out, (portion){e->input, enough ? e->input_size : 0, 0, at_end}, &used);
            e->input_size -= used;
            if (used && e->input_size <= n) { /* what is left can be had from the caller's buffer */
                in->pos -= e->input_size;
                e->input_size = 0;
            } else if (used) {
                memmove(e->input, e->input + used, e->input_size);
            }
        }
        if (status != ZNN_OK)
            return status;
        *blocked = e->line.first < e->line.next;
        if (*blocked || (used == 0 && in->pos == in->size))
            return ZNN_OK;
        if (used == 0 && e->input_size == 0) {
            /* Less than the plan wants: keep it. */
            const size_t rest = in->size - in->pos;
            if (!grow(e, &e->input, 0, &e->input_room, rest))
                return ZNN_ERROR_MEMORY;
            memcpy(e->input, (const uint8_t *)in->src + in->pos, rest);
            e->input_size = rest;
            in->pos = in->size;
        }
    }
}

static znn_status run(znn_encoder *e, znn_out_buffer *out, znn_in_buffer *in, znn_directive directive, size_t *pending)
{
    znn_status status;
    if (e->state == ENDED)
        e->state = BEGIN;
    if (e->state == BEGIN && (status = begin_frame(e)) != ZNN_OK)
        return status;
    for (;;) {
        emit(out, e->small, e->small_size, &e->small_pos);
        if (e->small_pos < e->small_size)
            break;
        if (e->state == BODY) {
            bool blocked;
            if ((status = run_body(e, out, in, directive != ZNN_CONTINUE, &blocked)) != ZNN_OK)
                return status;
            if (blocked || in->pos < in->size || directive == ZNN_CONTINUE)
                break;
            if (directive == ZNN_FLUSH) {
                /* The plan has been told that the stream ends: begin another. */
                znn_plan_free(e->plan);
                e->plan = znn_plan_new(e->options.dtype, (size_t)1 << e->chunk_log, &e->allocator);
                if (!e->plan)
                    return ZNN_ERROR_MEMORY;
                break;
            }
            if (e->options.content_size != ZNN_SIZE_UNKNOWN && e->options.content_size != e->content_size)
                return ZNN_ERROR_ARGUMENT;
            memset(e->small, 0, ZNN_END_HEADER_SIZE);
            e->small[0] = ZNN_BLOCK_END;
            e->small_size = ZNN_END_HEADER_SIZE;
            e->small_pos = 0;
            e->table_pos = 0;
            e->state = END_HEADER;
        } else if (e->state == END_HEADER) {
            emit(out, e->table, e->table_size, &e->table_pos);
            if (e->table_pos < e->table_size)
                break;
            znn_hasher hasher;
            znn_hasher_begin(&hasher);
            znn_hasher_update(&hasher, e->small, ZNN_END_HEADER_SIZE);
            if (e->table_size)
                znn_hasher_update(&hasher, e->table, e->table_size);
            e->frame_size += ZNN_END_HEADER_SIZE + e->table_size + ZNN_TRAILER_SIZE;
            znn_trailer trailer = {.chunks = e->table_size / ZNN_TABLE_ENTRY_SIZE,
                                   .content_size = e->content_size,
                                   .checksum = e->options.checksum ? znn_hasher_end(&e->whole) : 0,
                                   .frame_size = e->frame_size};
            znn_trailer_write(e->small, &trailer, &hasher);
            e->small_size = ZNN_TRAILER_SIZE;
            e->small_pos = 0;
            e->state = TRAILER;
        } else {
            e->state = ENDED;
            e->small_size = e->small_pos = 0;
            break;
        }
    }
    if (pending) {
        size_t n = e->small_size - e->small_pos;
        for (size_t i = e->line.first; i < e->line.next; i++)
            n += ZNN_BLOCK_HEADER_SIZE + e->slots[i % e->slots_count].chunk.stored_size;
        n -= e->emitted_bytes;
        if (directive == ZNN_END && e->state != ENDED)
            n = ZNN_MAX(n, 1);
        if (directive != ZNN_CONTINUE)
            n += e->input_size;
        *pending = n;
    }
    return ZNN_OK;
}

znn_status znn_encoder_run(znn_encoder *e, znn_out_buffer *out, znn_in_buffer *in, znn_directive directive,
                           size_t *pending)
{
    if (!e || !out || !in || out->pos > out->size || in->pos > in->size || (unsigned)directive > ZNN_END)
        return ZNN_ERROR_ARGUMENT;
    if (e->failed == ZNN_OK)
        e->failed = run(e, out, in, directive, pending);
    return e->failed;
}

/* ---- one shot ---- */

uint64_t znn_compress_bound(uint64_t size)
{
    /* More than real files take. Tensors of a few bytes each could take more
     * yet, in chunks of their own: then znn_compress cuts them otherwise. */
    uint64_t extra = size / 64 + 4096;
    return size > UINT64_MAX - extra ? UINT64_MAX : size + extra;
}

static znn_status compress_all(znn_out_buffer *out, const void *src, size_t src_size, const znn_options *options)
{
    znn_encoder *e;
    znn_status status = znn_encoder_new(&e, options);
    if (status != ZNN_OK)
        return status;
    znn_in_buffer in = {src, src_size, 0};
    size_t pending;
    status = znn_encoder_run(e, out, &in, ZNN_END, &pending);
    if (status == ZNN_OK && pending)
        status = ZNN_ERROR_DST_TOO_SMALL;
    znn_encoder_free(e);
    return status;
}

znn_status znn_compress(void *dst, uint64_t dst_capacity, uint64_t *dst_size, const void *src, uint64_t src_size,
                        const znn_options *options)
{
    if (!dst_size || (!dst && dst_capacity) || (!src && src_size) || src_size > SIZE_MAX)
        return ZNN_ERROR_ARGUMENT;
    znn_options with_size;
    znn_status status = znn_options_check(&with_size, options);
    if (status != ZNN_OK)
        return status;
    with_size.content_size = src_size;
    const uint64_t bound = znn_compress_bound(src_size);
    uint8_t nothing;
    /* No further than the bound, so that the bytes do not depend on the room. */
    znn_out_buffer out = {dst ? dst : &nothing, (size_t)ZNN_MIN(dst_capacity, ZNN_MIN(bound, SIZE_MAX)), 0};
    status = compress_all(&out, src ? src : &nothing, (size_t)src_size, &with_size);
    if (status == ZNN_ERROR_DST_TOO_SMALL && dst_capacity >= bound) {
        with_size.dtype = ZNN_BYTES; /* chunks of the full size: the bound holds for certain */
        out.pos = 0;
        status = compress_all(&out, src ? src : &nothing, (size_t)src_size, &with_size);
    }
    *dst_size = status == ZNN_OK ? out.pos : 0;
    return status;
}
