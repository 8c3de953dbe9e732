/* Files of the Python package zipnn: read, and written for it. */
#ifndef CLI_ZIPNN_H
#define CLI_ZIPNN_H

#include "files.h"
#include "stream.h"

#include <jansson.h>

/* Like stream_compress and stream_decompress. */
bool zipnn_compress(stream *s, const znn_options *options, stream_sink sink, void *opaque);
bool zipnn_decompress(stream *s, stream_sink sink, void *opaque);

/* Content bytes at s->position: how many, or -1 after a message. */
ptrdiff_t zipnn_read(const stream *s, void *dst, size_t size);

/* True if the ZipNN file's content is exactly what content_fd has from its begin. */
bool zipnn_verify(znn_zipnn_reader *zipnn, const char *name, int content_fd);
/* The same for the ZipNN file just written to fd. */
bool zipnn_verify_file(int fd, const char *name, int content_fd);
/* True if the frames in frames_fd hold exactly the ZipNN file's content. */
bool zipnn_verify_frames(znn_zipnn_reader *zipnn, int frames_fd, const char *name, const znn_options *options);

/* The file of --base becomes the codec's base, for as long as the command runs. False after a message. */
bool zipnn_map_base(cli_options *options);

/* What -l says of it. */
bool zipnn_list(const source_file *source, bool json, json_t *results);

#endif
