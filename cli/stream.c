/*
 * One thread does everything by turns; with more, reading a file and handing
 * over what was made have threads of their own beside those of the coder, so
 * that the system copies while the coder works.
 */
#include "stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "message.h"
#include "progress.h"
#include "ring.h"
#include "zipnn.h"

#define BUFFER_SIZE ((size_t)1 << 20)
#define LARGE_BUFFER_SIZE ((size_t)2 << 20) /* several chunks for several threads */
#define BUFFERS_AHEAD 3

ptrdiff_t read_full(int fd, void *dst, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, (char *)dst + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ptrdiff_t)done;
}

ptrdiff_t stream_read(stream *s, void *dst, size_t size)
{
    ptrdiff_t n;
    if (s->zipnn) {
        n = zipnn_read(s, dst, size);
        s->position += n > 0 ? (uint64_t)n : 0;
        return n;
    }
    size_t start = s->start_size < size ? s->start_size : size;
    if (start) {
        memcpy(dst, s->start, start);
        s->start += start;
    }
    s->start_size -= start;
    n = read_full(s->fd, (char *)dst + start, size - start);
    if (n < 0) {
        message_error(s->name, "cannot read: %s", strerror(errno));
        return -1;
    }
    return (ptrdiff_t)start + n;
}

/* ---- Between the threads ---- */

/* What the coder works between. `in` and `out` are of the buffers at hand. */
typedef struct {
    stream *s;
    stream_sink sink;
    void *opaque;
    size_t room; /* of a buffer */
    ring *read, *made;
    bool reads_ahead, hands_over; /* in threads of their own */
    pthread_t reader, writer;
    ring_buffer *holds; /* of the ring `read`, or NULL */
    znn_in_buffer in;
    znn_out_buffer out;
    bool at_end; /* of the input */
    bool failed; /* the sink did, after a message */
} flow;

/* Fill one buffer. False if it is the last. */
static bool read_one(flow *f)
{
    ring_buffer *b = ring_to_fill(f->read);
    if (!b)
        return false;
    const ptrdiff_t n = stream_read(f->s, b->bytes, f->room);
    b->failed = n < 0;
    b->size = n < 0 ? 0 : (size_t)n;
    const bool more = b->size == f->room;
    ring_filled(f->read);
    return more;
}

/* Empty one. False if there is none left, or the sink wants none. */
static bool write_one(flow *f)
{
    ring_buffer *b = ring_to_empty(f->made);
    if (!b)
        return false;
    f->failed = !f->sink(f->opaque, b->bytes, b->size);
    ring_emptied(f->made);
    if (f->failed)
        ring_abandon(f->made);
    return !f->failed;
}

static void *read_all(void *argument)
{
    while (read_one(argument))
        ;
    return NULL;
}

static void *write_all(void *argument)
{
    while (write_one(argument))
        ;
    return NULL;
}

/* A read from a pipe may wait for ever, and who writes to it is a thread of its own already. */
static bool is_file(const stream *s)
{
    struct stat status;
    return s->zipnn || (fstat(s->fd, &status) == 0 && S_ISREG(status.st_mode));
}

/* Set `out` to an empty buffer. False if the sink wants none. */
static bool begin_out(flow *f)
{
    ring_buffer *b = ring_to_fill(f->made);
    if (!b)
        return false;
    f->out = (znn_out_buffer){b->bytes, f->room, 0};
    return true;
}

static void flow_begin(flow *f, stream *s, const znn_options *options, stream_sink sink, void *opaque)
{
    const bool threads = options->threads != 1;
    *f = (flow){.s = s, .sink = sink, .opaque = opaque, .room = threads ? LARGE_BUFFER_SIZE : BUFFER_SIZE};
    f->read = ring_new(threads ? BUFFERS_AHEAD : 1, f->room);
    f->made = ring_new(threads ? BUFFERS_AHEAD : 1, f->room);
    /* Without a thread it is done by turns. */
    f->reads_ahead = threads && is_file(s) && pthread_create(&f->reader, NULL, read_all, f) == 0;
    f->hands_over = threads && pthread_create(&f->writer, NULL, write_all, f) == 0;
    begin_out(f);
}

/* True if all that was handed over was taken. */
static bool flow_end(flow *f)
{
    ring_end(f->made);
    ring_abandon(f->read);
    if (f->reads_ahead)
        pthread_join(f->reader, NULL);
    if (f->hands_over)
        pthread_join(f->writer, NULL);
    ring_free(f->read);
    ring_free(f->made);
    return !f->failed;
}

static bool refill(flow *f)
{
    if (f->holds)
        ring_emptied(f->read);
    if (!f->reads_ahead)
        read_one(f);
    f->holds = ring_to_empty(f->read);
    if (f->holds->failed)
        return false;
    f->in = (znn_in_buffer){f->holds->bytes, f->holds->size, 0};
    f->at_end = f->in.size < f->room;
    f->s->consumed += f->in.size;
    progress_update(f->s->consumed);
    return true;
}

/* Hand over what is in `out`, and have another buffer there. */
static bool drain(flow *f)
{
    if (f->out.pos == 0)
        return true;
    f->s->produced += f->out.pos;
    ring_buffer *b = ring_to_fill(f->made); /* the one that `out` is in */
    if (!b)
        return false;
    b->size = f->out.pos;
    ring_filled(f->made);
    return (f->hands_over || write_one(f)) && begin_out(f);
}

/* ---- Coding ---- */

static bool encode_all(flow *f, znn_encoder *encoder)
{
    stream *s = f->s;
    size_t pending = 1;
    while (!f->at_end || pending) {
        if (f->in.pos == f->in.size && !f->at_end && !refill(f))
            return false;
        if (f->at_end && s->size != UINT64_MAX && s->consumed != s->size) {
            message_error(s->name, "the file changed while it was read");
            return false;
        }
        znn_status status = znn_encoder_run(encoder, &f->out, &f->in, f->at_end ? ZNN_END : ZNN_CONTINUE, &pending);
        if (status != ZNN_OK) {
            message_error(s->name, "%s", message_of(status));
            return false;
        }
        if (!drain(f))
            return false;
    }
    return true;
}

bool stream_compress(stream *s, const znn_options *options, stream_sink sink, void *opaque)
{
    znn_options with_size = *options;
    with_size.content_size = s->size == UINT64_MAX ? ZNN_SIZE_UNKNOWN : s->size;
    s->consumed = s->produced = 0;
    znn_encoder *encoder;
    znn_status status = znn_encoder_new(&encoder, &with_size);
    if (status != ZNN_OK) {
        message_error(s->name, "%s", message_of(status));
        return false;
    }
    flow f;
    flow_begin(&f, s, options, sink, opaque);
    progress_begin(s->name, s->size);
    bool ok = encode_all(&f, encoder);
    ok = flow_end(&f) && ok;
    progress_end();
    znn_encoder_free(encoder);
    return ok;
}

static bool bad_data(const flow *f, const znn_decoder *decoder, znn_status status)
{
    const stream *s = f->s;
    uint64_t input_offset, content_offset;
    znn_decoder_position(decoder, &input_offset, &content_offset);
    if (s->consumed == 0)
        message_error(s->name, "not a znn file: it is empty");
    else if (status == ZNN_ERROR_FORMAT && input_offset == 0 && !znn_is_frame(f->in.src, f->in.size))
        message_error(s->name, "not a znn file");
    else
        message_error(s->name, "%s (at byte %llu of the file, byte %llu of the content)", message_of(status),
                      (unsigned long long)input_offset, (unsigned long long)content_offset);
    return false;
}

static bool decode_all(flow *f, znn_decoder *decoder)
{
    int ended = 0;
    for (;;) {
        if (f->in.pos == f->in.size && f->out.pos == 0) {
            if (!f->at_end && !refill(f))
                return false;
            if (f->in.pos == f->in.size)
                return ended || bad_data(f, decoder, ZNN_ERROR_TRUNCATED);
        }
        znn_status status;
        do { /* the rest of the input, and all that is ready for it */
            status = znn_decoder_run(decoder, &f->out, &f->in, &ended);
            bool full = f->out.pos == f->out.size;
            if (status != ZNN_OK)
                return bad_data(f, decoder, status);
            if (!drain(f))
                return false;
            if (!full && f->in.pos == f->in.size)
                break;
        } while (!ended);
    }
}

bool stream_decompress(stream *s, const znn_options *options, stream_sink sink, void *opaque)
{
    s->consumed = s->produced = 0;
    znn_decoder *decoder;
    znn_status status = znn_decoder_new(&decoder, options);
    if (status != ZNN_OK) {
        message_error(s->name, "%s", message_of(status));
        return false;
    }
    flow f;
    flow_begin(&f, s, options, sink, opaque);
    progress_begin(s->name, s->size);
    bool ok = decode_all(&f, decoder);
    ok = flow_end(&f) && ok;
    progress_end();
    znn_decoder_free(decoder);
    return ok;
}

typedef struct {
    int fd;
    const char *name;
    unsigned char *buffer;
} comparison;

static bool sink_compare(void *opaque, const void *src, size_t size)
{
    const comparison *c = opaque;
    for (size_t done = 0; done < size;) {
        const size_t part = size - done < BUFFER_SIZE ? size - done : BUFFER_SIZE;
        const ptrdiff_t n = read_full(c->fd, c->buffer, part);
        if (n < 0) {
            message_error(c->name, "cannot verify: %s", strerror(errno));
            return false;
        }
        if ((size_t)n != part || memcmp(c->buffer, (const char *)src + done, part) != 0) {
            message_error(c->name, "verification failed: the content differs from the other file's");
            return false;
        }
        done += part;
    }
    return true;
}

bool stream_verify(int frames_fd, const char *name, int content_fd, const znn_options *options)
{
    if (lseek(frames_fd, 0, SEEK_SET) != 0 || lseek(content_fd, 0, SEEK_SET) != 0) {
        message_error(name, "cannot verify: %s", strerror(errno));
        return false;
    }
    comparison c = {content_fd, name, allocate(BUFFER_SIZE)};
    stream s = {.fd = frames_fd, .name = name, .size = UINT64_MAX};
    bool ok = stream_decompress(&s, options, sink_compare, &c);
    if (ok && read_full(content_fd, c.buffer, 1) != 0) {
        message_error(name, "verification failed: the other file is longer");
        ok = false;
    }
    free(c.buffer);
    return ok;
}
