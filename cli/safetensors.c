#include "safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "damage.h"
#include "message.h"
#include "output.h"
#include "progress.h"
#include "sink.h"
#include "suffix.h"

/* Where a transformation's bytes go: to a file, against one, or nowhere. */
typedef struct {
    const znn_safetensors *file;
    const char *name; /* of what is written, or compared with; for messages */
    int fd;            /* -1: nowhere */
    const output *out; /* NULL: not to be asked for room */
    sink_target *pipe; /* NULL, or what takes no place, and is written to from the first byte to the last */
    bool compares;
    unsigned char *buffer; /* for comparing */
    size_t room;
    bool failed; /* with a message */
} target;

static int target_write(void *opaque, uint64_t offset, const void *src, size_t size)
{
    target *t = opaque;
    progress_update(znn_safetensors_done(t->file));
    if (t->pipe) {
        t->failed = !sink_write(t->pipe, src, size); /* restoring goes in order */
        return t->failed;
    }
    if (t->fd < 0)
        return 0;
    if (t->compares) {
        if (size > t->room) {
            free(t->buffer);
            t->buffer = allocate(size);
            t->room = size;
        }
        t->failed = read_at(&t->fd, offset, t->buffer, size) != 0 || memcmp(t->buffer, src, size) != 0;
        if (t->failed)
            message_error(t->name, "verification failed: the content differs from the other file's");
        return t->failed;
    }
    while (size) {
        ssize_t n = pwrite(t->fd, src, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            message_error(t->name, "cannot write: %s", strerror(errno));
            t->failed = true;
            return -1;
        }
        src = (const char *)src + n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static bool file_size(int fd, uint64_t *size)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return false;
    *size = (uint64_t)status.st_size;
    return true;
}

/* Bytes of all tensors, which is what progress is measured by. */
static uint64_t content_of(const znn_safetensors *file)
{
    uint64_t size = 0;
    znn_safetensors_tensor tensor;
    for (uint64_t i = 0; znn_safetensors_tensor_info(file, i, &tensor) == ZNN_OK; i++)
        size += tensor.size;
    return size;
}

/* A small file may say that it holds terabytes. */
static bool has_room(const znn_safetensors *file, const char *name, const target *t)
{
    uint64_t header_size = 0;
    znn_safetensors_header(file, &header_size);
    return !t->out || output_has_room(t->out, name, 8 + header_size + content_of(file));
}

static bool open_fd(znn_safetensors **file, int *fd, uint64_t size, const char *name, const cli_options *o)
{
    znn_reason reason = {""};
    znn_status status = znn_safetensors_open_fn(file, read_at, fd, size, &o->codec, &reason);
    if (status != ZNN_OK)
        message_error(name, "%s", damage_reason(status, &reason));
    return status == ZNN_OK;
}

bool safetensors_open(znn_safetensors **file, source_file *source, const cli_options *o)
{
    return open_fd(file, &source->fd, source->size, source->name, o);
}

/* Transform the file, called `name`, into *t. False after a message. */
static bool transform(znn_safetensors *file, const char *name, bool compress, target *t, uint64_t *written)
{
    znn_reason reason = {""};
    if (!compress && !has_room(file, name, t))
        return false;
    t->file = file;
    progress_begin(name, content_of(file));
    znn_status status =
        (compress ? znn_safetensors_compress : znn_safetensors_decompress)(file, target_write, t, written, &reason);
    progress_end();
    free(t->buffer);
    t->buffer = NULL;
    if (status != ZNN_OK && !t->failed)
        message_error(name, "%s", damage_reason(status, &reason));
    return status == ZNN_OK;
}

/* Whether the compressed file gives the plain one, byte for byte. */
static bool verify(znn_safetensors *compressed, const char *name, int plain)
{
    target t = {.fd = plain, .name = name, .compares = true};
    uint64_t written, size;
    if (!transform(compressed, name, false, &t, &written))
        return false;
    if (file_size(plain, &size) && size == written)
        return true;
    message_error(name, "verification failed: the other file is longer");
    return false;
}

/* The same for the compressed file just written to fd. */
static bool verify_written(const cli_options *o, int fd, uint64_t size, const char *name, int plain)
{
    znn_safetensors *file;
    if (!open_fd(&file, &fd, size, name, o))
        return false;
    const bool ok = verify(file, name, plain);
    znn_safetensors_free(file);
    return ok;
}

/* The result's name by the source's; NULL after a message. Freed by the caller. */
static char *result_name(const cli_options *o, const char *name)
{
    const bool compress = o->mode == MODE_COMPRESS;
    size_t size = strlen(name);
    if (!compress && !has_suffix(name, COMPRESSED_SAFETENSORS_SUFFIX)) {
        message_error(name, "unknown suffix, since it is not %s; -o or -c says where the result goes",
                      COMPRESSED_SAFETENSORS_SUFFIX);
        return NULL;
    }
    if (!compress)
        size -= strlen(COMPRESSED_SAFETENSORS_SUFFIX);
    else if (has_suffix(name, SAFETENSORS_SUFFIX))
        size -= strlen(SAFETENSORS_SUFFIX);
    char *result = allocate(size + sizeof COMPRESSED_SAFETENSORS_SUFFIX);
    memcpy(result, name, size);
    strcpy(result + size, compress ? COMPRESSED_SAFETENSORS_SUFFIX : SAFETENSORS_SUFFIX);
    return result;
}

static void report(const source_file *source, const char *result, bool compress, uint64_t written)
{
    const uint64_t plain = compress ? source->size : written, compressed = compress ? written : source->size;
    char *clean = printable(result);
    message_done(source->name, "%.1f %% saved (%s => %s), %s",
                 plain ? 100.0 - 100.0 * (double)compressed / (double)plain : 0, size_for_humans(source->size).text,
                 size_for_humans(written).text, clean);
    free(clean);
}

static bool to_file(const cli_options *o, const source_file *source, const char *result)
{
    const bool compress = o->mode == MODE_COMPRESS;
    struct stat existing;
    if (stat(result, &existing) == 0) {
        const bool same = existing.st_dev == source->status.st_dev && existing.st_ino == source->status.st_ino;
        if (same)
            message_error(source->name, "would be its own result; give -o another name");
        else if (!S_ISREG(existing.st_mode))
            message_error(result, "is not a regular file");
        if (same || !S_ISREG(existing.st_mode))
            return false;
    }
    output out;
    if (!output_open(&out, result, o->force))
        return false;
    const bool remove_source = o->remove_source && !source->is_stdin;
    target t = {.fd = out.fd, .out = &out, .name = result};
    uint64_t written;
    bool ok = transform(source->safetensors, source->name, compress, &t, &written) && source_stayed(source);
    if (ok && ftruncate(out.fd, (off_t)written) != 0) {
        message_error(result, "cannot write: %s", strerror(errno));
        ok = false;
    }
    if (ok && remove_source)
        ok = compress ? verify_written(o, out.fd, written, result, source->fd)
                      : verify(source->safetensors, source->name, out.fd);
    ok = ok && output_copy_metadata(&out, source->is_stdin ? NULL : &source->status) &&
         output_commit(&out, remove_source);
    if (!ok) {
        output_discard(&out);
        return false;
    }
    report(source, result, compress, written);
    return !remove_source || source_remove(source);
}

static bool to_stdout(const source_file *source)
{
    sink_target pipe = {.fd = STDOUT_FILENO, .name = "standard output"};
    target t = {.fd = STDOUT_FILENO, .pipe = &pipe, .name = pipe.name};
    uint64_t written;
    if (!transform(source->safetensors, source->name, false, &t, &written) || !source_stayed(source))
        return false;
    report(source, pipe.name, false, written);
    return true;
}

static bool test(const source_file *source)
{
    target nowhere = {.fd = -1};
    uint64_t written;
    if (!transform(source->safetensors, source->name, false, &nowhere, &written))
        return false;
    message_done(source->name, "is whole: %s of content", size_for_humans(written).text);
    return true;
}

bool safetensors_process(const cli_options *o, source_file *source)
{
    const bool compress = o->mode == MODE_COMPRESS;
    if (compress && (source->is_stdin || source->size == UINT64_MAX)) {
        message_error(source->name, "--safetensors compresses files by their names");
        return false;
    }
    if (!source->safetensors && !safetensors_open(&source->safetensors, source, o))
        return false;
    if (!compress && !znn_safetensors_is_compressed(source->safetensors)) {
        message_error(source->name, "is a plain safetensors file: there is nothing to decompress");
        return false;
    }
    if (o->mode == MODE_TEST)
        return test(source);
    if (o->output)
        return to_file(o, source, o->output);
    if (o->to_stdout || source->is_stdin)
        return to_stdout(source);
    char *result = result_name(o, source->name);
    const bool ok = result && to_file(o, source, result);
    free(result);
    return ok;
}
