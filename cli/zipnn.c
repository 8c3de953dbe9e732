#include "zipnn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "json.h"
#include "message.h"
#include "progress.h"

#define STREAMING_CHUNK ((size_t)1 << 20) /* content in a stream: zipnn's own default */

static bool failed(const char *name, znn_status status)
{
    message_error(name, "%s", message_of(status));
    return false;
}

/* ---- Recognising ---- */

/* A safetensors file's JSON begins after its length. */
static bool may_be_zipnn(const uint8_t *start, size_t size)
{
    return znn_zipnn_is(start, size) || (size == SOURCE_START && start[8] == '{');
}

/* The rest of a pipe, behind what was looked at, into a file without a name. */
static bool spool(source_file *source)
{
    FILE *file = tmpfile();
    int fd = file ? fcntl(fileno(file), F_DUPFD_CLOEXEC, 3) : -1;
    if (file)
        fclose(file);
    uint8_t *buffer = allocate(STREAMING_CHUNK);
    sink_target target = {.fd = fd, .name = "a temporary file", .is_own_file = true};
    ptrdiff_t n = (ptrdiff_t)source->start_size;
    uint64_t size = 0;
    memcpy(buffer, source->start, source->start_size);
    bool ok = fd >= 0;
    if (!ok)
        message_error(source->name, "cannot make a temporary file: %s", strerror(errno));
    while (ok && n > 0) {
        size += (uint64_t)n;
        ok = sink_write(&target, buffer, (size_t)n);
        n = ok ? read_full(source->fd, buffer, STREAMING_CHUNK) : 0;
    }
    free(buffer);
    if (ok && n < 0) {
        message_error(source->name, "cannot read: %s", strerror(errno));
        ok = false;
    }
    if (!ok) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    if (!source->is_stdin)
        close(source->fd);
    source->fd = fd;
    source->is_spooled = true;
    source->size = size;
    source->start_size = 0;
    return true;
}

bool zipnn_recognise(source_file *source, const cli_options *o)
{
    bool seekable = source->size != UINT64_MAX;
    ptrdiff_t n = seekable ? pread(source->fd, source->start, SOURCE_START, 0)
                           : read_full(source->fd, source->start, SOURCE_START);
    if (n < 0) {
        message_error(source->name, "cannot read: %s", strerror(errno));
        return false;
    }
    source->start_size = seekable ? 0 : (size_t)n;
    if (!may_be_zipnn(source->start, (size_t)n))
        return true;
    if (!seekable && !spool(source))
        return false;
    znn_status status = znn_zipnn_reader_open_fn(&source->zipnn, read_at, &source->fd, source->size, &o->codec);
    /* Another safetensors file is for who reads those. */
    if (status == ZNN_OK || (status == ZNN_ERROR_FORMAT && !znn_zipnn_is(source->start, (size_t)n)))
        return true;
    switch (status) {
    case ZNN_ERROR_FORMAT: message_error(source->name, "a ZipNN file whose structure is damaged"); break;
    case ZNN_ERROR_UNSUPPORTED:
        message_error(source->name, "a ZipNN file of a version or a kind that is not supported");
        break;
    case ZNN_ERROR_BASE: message_error(source->name, "the base's size is not that of this ZipNN file's content"); break;
    default: failed(source->name, status); break;
    }
    return false;
}

bool zipnn_map_base(cli_options *o)
{
    struct stat status;
    int fd = open(o->base, O_RDONLY | O_CLOEXEC);
    void *memory = MAP_FAILED;
    if (fd >= 0 && fstat(fd, &status) == 0) {
        if ((uint64_t)status.st_size > SIZE_MAX)
            errno = EFBIG; /* where size_t has 32 bits */
        else
            memory = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    if (memory == MAP_FAILED)
        message_error(o->base, "cannot be read as a base: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    if (memory == MAP_FAILED)
        return false;
    o->codec.base = memory;
    o->codec.base_size = (uint64_t)status.st_size;
    return true;
}

/* ---- Reading ---- */

ptrdiff_t zipnn_read(const stream *s, void *dst, size_t size)
{
    uint64_t left = znn_zipnn_reader_size(s->zipnn) - s->position;
    if (size > left)
        size = (size_t)left;
    znn_status status = znn_zipnn_reader_read(s->zipnn, dst, s->position, size);
    if (status == ZNN_OK)
        return (ptrdiff_t)size;
    if (status == ZNN_ERROR_BASE)
        message_error(s->name, "a ZipNN delta; --base names the file it is against");
    else
        message_error(s->name, "%s (a ZipNN file, from byte %llu of the content)",
                      status == ZNN_ERROR_FORMAT ? "its structure is damaged" : message_of(status),
                      (unsigned long long)s->position);
    return -1;
}

bool zipnn_decompress(stream *s, stream_sink sink, void *opaque)
{
    uint8_t *buffer = allocate(STREAMING_CHUNK);
    uint64_t whole = znn_zipnn_reader_size(s->zipnn);
    ptrdiff_t n = 0;
    bool ok = true;
    s->position = s->produced = 0;
    progress_begin(s->name, whole);
    do {
        n = zipnn_read(s, buffer, STREAMING_CHUNK);
        ok = n >= 0 && (n == 0 || sink(opaque, buffer, (size_t)n));
        s->position += ok ? (uint64_t)n : 0;
        progress_update(s->position);
    } while (ok && n > 0);
    progress_end();
    free(buffer);
    s->produced = s->position;
    s->consumed = s->size;
    return ok;
}

/* ---- Writing ---- */

bool zipnn_compress(stream *s, const znn_options *options, stream_sink sink, void *opaque)
{
    znn_zipnn_options o;
    znn_zipnn_options_init(&o);
    o.dtype = options->dtype;
    o.streaming_chunk = STREAMING_CHUNK;
    uint64_t capacity = znn_zipnn_bound(STREAMING_CHUNK, &o), size;
    uint8_t *content = allocate(STREAMING_CHUNK), *streams = allocate((size_t)capacity);
    ptrdiff_t n;
    bool ok = true;
    s->consumed = s->produced = 0;
    progress_begin(s->name, s->size);
    do {
        n = stream_read(s, content, STREAMING_CHUNK);
        if (n < 0) {
            ok = false;
            break;
        }
        if (n == 0 && s->consumed) /* an empty file is one empty stream */
            break;
        s->consumed += (uint64_t)n;
        znn_status status = znn_zipnn_compress(streams, capacity, &size, content, (uint64_t)n, &o);
        ok = status == ZNN_OK ? sink(opaque, streams, (size_t)size) : failed(s->name, status);
        s->produced += size;
        progress_update(s->consumed);
    } while (ok && (size_t)n == STREAMING_CHUNK);
    progress_end();
    free(content);
    free(streams);
    if (ok && s->size != UINT64_MAX && s->consumed != s->size) {
        message_error(s->name, "the file changed while it was read");
        ok = false;
    }
    return ok;
}

/* ---- Verifying ---- */

typedef struct {
    stream content; /* what is left to compare with */
    uint8_t *buffer;
    size_t room;
} comparison;

static bool sink_compare(void *opaque, const void *src, size_t size)
{
    comparison *c = opaque;
    while (size) {
        ptrdiff_t n = stream_read(&c->content, c->buffer, size < c->room ? size : c->room);
        if (n < 0)
            return false;
        if (n == 0 || memcmp(c->buffer, src, (size_t)n) != 0) {
            message_error(c->content.name, "verification failed: the content differs");
            return false;
        }
        src = (const uint8_t *)src + n;
        size -= (size_t)n;
    }
    return true;
}

/* What is compared with must have been used up. */
static bool compare(stream *s, const stream *content, const znn_options *options)
{
    comparison c = {*content, allocate(STREAMING_CHUNK), STREAMING_CHUNK};
    bool ok = s->zipnn ? zipnn_decompress(s, sink_compare, &c) : stream_decompress(s, options, sink_compare, &c);
    if (ok && stream_read(&c.content, c.buffer, 1) != 0) {
        message_error(s->name, "verification failed: the other file is longer");
        ok = false;
    }
    free(c.buffer);
    return ok;
}

static bool rewind_file(int fd, const char *name)
{
    if (lseek(fd, 0, SEEK_SET) == 0)
        return true;
    message_error(name, "cannot verify: %s", strerror(errno));
    return false;
}

bool zipnn_verify(znn_zipnn_reader *zipnn, const char *name, int content_fd)
{
    stream s = {.fd = -1, .name = name, .size = UINT64_MAX, .zipnn = zipnn};
    stream content = {.fd = content_fd, .name = name, .size = UINT64_MAX};
    return rewind_file(content_fd, name) && compare(&s, &content, NULL);
}

bool zipnn_verify_file(int fd, const char *name, int content_fd)
{
    off_t size = lseek(fd, 0, SEEK_END);
    znn_zipnn_reader *reader;
    znn_status status = znn_zipnn_reader_open_fn(&reader, read_at, &fd, size < 0 ? 0 : (uint64_t)size, NULL);
    if (status != ZNN_OK)
        return failed(name, status);
    bool ok = zipnn_verify(reader, name, content_fd);
    znn_zipnn_reader_free(reader);
    return ok;
}

bool zipnn_verify_frames(znn_zipnn_reader *zipnn, int frames_fd, const char *name, const znn_options *options)
{
    stream s = {.fd = frames_fd, .name = name, .size = UINT64_MAX};
    stream content = {.fd = -1, .name = name, .size = UINT64_MAX, .zipnn = zipnn};
    return rewind_file(frames_fd, name) && compare(&s, &content, options);
}

/* ---- Listing ---- */

static const char *input_name(int input)
{
    static const char *const names[] = {"?", "bytes", "torch", "numpy", "file"};
    return (unsigned)input < sizeof names / sizeof *names ? names[input] : "?";
}

static double saved_percent(uint64_t content, uint64_t stored)
{
    return content ? 100 - 100 * (double)stored / (double)content : 0;
}

/* Streams by dtype, and the tensors of a safetensors file. */
typedef struct {
    uint64_t streams, content, stored;
} sum;

static znn_status add_up(znn_zipnn_reader *reader, uint64_t parts, sum by_dtype[ZNN_DTYPE_COUNT])
{
    for (uint64_t i = 0; i < parts; i++) {
        znn_zipnn_part part;
        znn_status status = znn_zipnn_reader_part(reader, i, &part);
        if (status != ZNN_OK)
            return status;
        by_dtype[part.dtype].streams += part.is_stream != 0;
        by_dtype[part.dtype].content += part.content_size;
        by_dtype[part.dtype].stored += part.stored_size;
    }
    return ZNN_OK;
}

static void print_row(const char *name, int width, const char *second, uint64_t content, uint64_t stored)
{
    char *clean = printable(name);
    printf("  %-*s  %-8s  %10s  %10s  %6.1f %%\n", width, clean, second, size_for_humans(content).text,
           size_for_humans(stored).text, saved_percent(content, stored));
    free(clean);
}

static void print_text(const source_file *source, const znn_zipnn_info *i, const sum by_dtype[ZNN_DTYPE_COUNT])
{
    char *clean = printable(source->name);
    printf("%s: %s => %s, %.1f %% saved\n", clean, size_for_humans(i->content_size).text,
           size_for_humans(i->stored_size).text, saved_percent(i->content_size, i->stored_size));
    free(clean);
    uint64_t streams = 0;
    for (int d = 0; d < ZNN_DTYPE_COUNT; d++)
        streams += by_dtype[d].streams;
    printf("  ZipNN %d.%d.%d%s, %llu stream%s, of %s, no checksum%s\n\n", i->version[0], i->version[1], i->version[2],
           i->is_safetensors ? " in safetensors" : "", (unsigned long long)streams, streams == 1 ? "" : "s",
           input_name(i->input), i->delta ? ", needs its base" : "");
    printf("  %-8s  %-8s  %10s  %10s  %8s\n", "dtype", "streams", "original", "stored", "saved");
    for (int d = 0; d < ZNN_DTYPE_COUNT; d++) {
        char count[24];
        snprintf(count, sizeof count, "%llu", (unsigned long long)by_dtype[d].streams);
        if (by_dtype[d].content)
            print_row(znn_dtype_name((znn_dtype)d), 8, count, by_dtype[d].content, by_dtype[d].stored);
    }
    if (!i->is_safetensors)
        return;
    printf("\n  %-40s  %-8s  %10s  %10s  %8s\n", "tensor", "dtype", "original", "stored", "saved");
    for (uint64_t p = 0; p < i->parts; p++) {
        znn_zipnn_part part;
        if (znn_zipnn_reader_part(source->zipnn, p, &part) == ZNN_OK && part.name)
            print_row(part.name, 40, znn_dtype_name(part.dtype), part.content_size, part.stored_size);
    }
}

static json_t *json_sizes(const char *title, json_t *name, uint64_t content, uint64_t stored)
{
    return json_pack("{s:o, s:I, s:I, s:f}", title, name, "original_size", (json_int_t)content, "stored_size",
                     (json_int_t)stored, "saved_percent", saved_percent(content, stored));
}

static json_t *json_listing(const source_file *source, const znn_zipnn_info *i, const sum by_dtype[ZNN_DTYPE_COUNT])
{
    json_t *dtypes = json_array(), *tensors = json_array();
    for (int d = 0; d < ZNN_DTYPE_COUNT; d++) {
        if (!by_dtype[d].content)
            continue;
        json_t *row =
            json_sizes("dtype", json_string(znn_dtype_name((znn_dtype)d)), by_dtype[d].content, by_dtype[d].stored);
        json_object_set_new(row, "streams", json_integer((json_int_t)by_dtype[d].streams));
        json_array_append_new(dtypes, row);
    }
    for (uint64_t p = 0; p < i->parts; p++) {
        znn_zipnn_part part;
        if (znn_zipnn_reader_part(source->zipnn, p, &part) != ZNN_OK || !part.name)
            continue;
        json_t *row = json_sizes("name", json_name(part.name), part.content_size, part.stored_size);
        json_object_set_new(row, "dtype", json_string(znn_dtype_name(part.dtype)));
        json_array_append_new(tensors, row);
    }
    json_t *object = json_sizes("file", json_name(source->name), i->content_size, i->stored_size);
    char version[40];
    snprintf(version, sizeof version, "%d.%d.%d", i->version[0], i->version[1], i->version[2]);
    json_t *more = json_pack("{s:s, s:s, s:s, s:b, s:b, s:o, s:o}", "format", "zipnn", "format_version", version,
                             "input", input_name(i->input), "checksum", 0, "needs_base", i->delta != 0, "dtypes",
                             dtypes, "tensors", tensors);
    json_object_update(object, more);
    json_decref(more);
    return object;
}

bool zipnn_list(const source_file *source, bool json, json_t *results)
{
    znn_zipnn_info info;
    sum by_dtype[ZNN_DTYPE_COUNT] = {{0}};
    znn_status status = znn_zipnn_reader_info(source->zipnn, &info);
    if (status == ZNN_OK)
        status = add_up(source->zipnn, info.parts, by_dtype);
    if (status != ZNN_OK)
        return failed(source->name, status);
    if (json)
        json_array_append_new(results, json_listing(source, &info, by_dtype));
    else
        print_text(source, &info, by_dtype);
    return true;
}
