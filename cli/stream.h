/* A file descriptor through the encoder or the decoder, in bounded memory. */
#ifndef CLI_STREAM_H
#define CLI_STREAM_H

#include "platform.h"

#include <znn.h>

#include "sink.h"

typedef struct {
    int fd;
    const char *name;        /* for messages */
    uint64_t size;           /* UINT64_MAX if unknown */
    znn_zipnn_reader *zipnn; /* NULL, or what is read in place of fd: a ZipNN file's content */
    uint64_t position;       /* in that content */
    const uint8_t *start;    /* bytes that were read from fd before, and come first */
    size_t start_size;
    uint64_t consumed; /* set: bytes read and used */
    uint64_t produced; /* set: bytes given to the sink */
} stream;

/* The next bytes of the input, `size` or all that are left: how many; -1 after a message. */
ptrdiff_t stream_read(stream *s, void *dst, size_t size);

/* False after a message. */
bool stream_compress(stream *s, const znn_options *options, stream_sink sink, void *opaque);
bool stream_decompress(stream *s, const znn_options *options, stream_sink sink, void *opaque);

/* True if the frames in frames_fd hold exactly what content_fd does; both are
 * read from their begin. Messages name the frames' file. */
bool stream_verify(int frames_fd, const char *name, int content_fd, const znn_options *options);

/* Read until size bytes or the end: what was read, or -1 with errno. */
ptrdiff_t read_full(int fd, void *dst, size_t size);

#endif
