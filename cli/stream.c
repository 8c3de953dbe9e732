#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"
#include "progress.h"
#include "zipnn.h"

#define BUFFER_SIZE ((size_t)1 << 20)

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

bool sink_nothing(void *opaque, const void *src, size_t size)
{
    (void)opaque, (void)src, (void)size;
    return true;
}

bool sink_write(void *opaque, const void *src, size_t size)
{
    const sink_target *target = opaque;
    for (size_t done = 0; done < size;) {
        ssize_t n = write(target->fd, (const char *)src + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            message_error(target->name, "cannot write: %s", strerror(errno));
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

/* The two buffers between which a coder works. */
typedef struct {
    unsigned char *in_memory, *out_memory;
    znn_in_buffer in;
    znn_out_buffer out;
    bool at_end; /* of the input */
} buffers;

static buffers buffers_new(void)
{
    buffers b = {.in_memory = allocate(BUFFER_SIZE), .out_memory = allocate(BUFFER_SIZE)};
    b.in.src = b.in_memory;
    b.out.dst = b.out_memory;
    b.out.size = BUFFER_SIZE;
    return b;
}

static void buffers_free(buffers *b)
{
    free(b->in_memory);
    free(b->out_memory);
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
    if (start)
        memcpy(dst, s->start, start);
    s->start += start;
    s->start_size -= start;
    n = read_full(s->fd, (char *)dst + start, size - start);
    if (n < 0) {
        message_error(s->name, "cannot read: %s", strerror(errno));
        return -1;
    }
    return (ptrdiff_t)start + n;
}

static bool refill(stream *s, buffers *b)
{
    ptrdiff_t n = stream_read(s, b->in_memory, BUFFER_SIZE);
    if (n < 0)
        return false;
    b->in.size = (size_t)n;
    b->in.pos = 0;
    b->at_end = (size_t)n < BUFFER_SIZE;
    s->consumed += (uint64_t)n;
    progress_update(s->consumed);
    return true;
}

static bool drain(stream *s, buffers *b, stream_sink sink, void *opaque)
{
    size_t n = b->out.pos;
    b->out.pos = 0;
    s->produced += n;
    return n == 0 || sink(opaque, b->out_memory, n);
}

static bool encode_all(stream *s, buffers *b, znn_encoder *encoder, stream_sink sink, void *opaque)
{
    size_t pending = 1;
    while (!b->at_end || pending) {
        if (b->in.pos == b->in.size && !b->at_end && !refill(s, b))
            return false;
        if (b->at_end && s->size != UINT64_MAX && s->consumed != s->size) {
            message_error(s->name, "the file changed while it was read");
            return false;
        }
        znn_status status = znn_encoder_run(encoder, &b->out, &b->in, b->at_end ? ZNN_END : ZNN_CONTINUE, &pending);
        if (status != ZNN_OK) {
            message_error(s->name, "%s", znn_status_message(status));
            return false;
        }
        if (!drain(s, b, sink, opaque))
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
        message_error(s->name, "%s", znn_status_message(status));
        return false;
    }
    buffers b = buffers_new();
    progress_begin(s->name, s->size);
    bool ok = encode_all(s, &b, encoder, sink, opaque);
    progress_end();
    buffers_free(&b);
    znn_encoder_free(encoder);
    return ok;
}

static bool bad_data(const stream *s, const buffers *b, const znn_decoder *decoder, znn_status status)
{
    uint64_t input_offset, content_offset;
    znn_decoder_position(decoder, &input_offset, &content_offset);
    if (s->consumed == 0)
        message_error(s->name, "not a znn file: it is empty");
    else if (status == ZNN_ERROR_FORMAT && input_offset == 0 && !znn_is_frame(b->in.src, b->in.size))
        message_error(s->name, "not a znn file");
    else
        message_error(s->name, "%s (at byte %llu of the file, byte %llu of the content)", znn_status_message(status),
                      (unsigned long long)input_offset, (unsigned long long)content_offset);
    return false;
}

static bool decode_all(stream *s, buffers *b, znn_decoder *decoder, stream_sink sink, void *opaque)
{
    int ended = 0;
    for (;;) {
        if (b->in.pos == b->in.size && b->out.pos == 0) {
            if (!b->at_end && !refill(s, b))
                return false;
            if (b->in.pos == b->in.size)
                return ended || bad_data(s, b, decoder, ZNN_ERROR_TRUNCATED);
        }
        znn_status status;
        do { /* the rest of the input, and all that is ready for it */
            status = znn_decoder_run(decoder, &b->out, &b->in, &ended);
            bool full = b->out.pos == b->out.size;
            if (status != ZNN_OK)
                return bad_data(s, b, decoder, status);
            if (!drain(s, b, sink, opaque))
                return false;
            if (!full && b->in.pos == b->in.size)
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
        message_error(s->name, "%s", znn_status_message(status));
        return false;
    }
    buffers b = buffers_new();
    progress_begin(s->name, s->size);
    bool ok = decode_all(s, &b, decoder, sink, opaque);
    progress_end();
    buffers_free(&b);
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
    ptrdiff_t n = read_full(c->fd, c->buffer, size);
    if (n < 0)
        message_error(c->name, "cannot verify: %s", strerror(errno));
    else if ((size_t)n != size || memcmp(c->buffer, src, size) != 0)
        message_error(c->name, "verification failed: the content differs from the other file's");
    else
        return true;
    return false;
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
