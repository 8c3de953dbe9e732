#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "message.h"
#include "output.h"
#include "progress.h"

#define PLAIN_SUFFIX ".safetensors"
#define COMPRESSED_SUFFIX ".znn.safetensors"

/* Where a transformation's bytes go: to a file, against one, or nowhere. */
typedef struct {
    const znn_safetensors *file;
    const char *name; /* of what is written, or compared with; for messages */
    int fd;           /* -1: nowhere */
    const output *out; /* NULL: not to be asked for room */
    bool compares;
    unsigned char *buffer; /* for comparing */
    size_t room;
    bool failed; /* with a message */
} target;

static int target_write(void *opaque, uint64_t offset, const void *src, size_t size)
{
    target *t = opaque;
    progress_update(znn_safetensors_done(t->file));
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

/* Transform the file `fd`, called `name`, into *t. False after a message. */
static bool transform(const cli_options *o, int fd, const char *name, bool compress, target *t, uint64_t *written)
{
    uint64_t size;
    if (!file_size(fd, &size)) {
        message_error(name, "cannot read: %s", strerror(errno));
        return false;
    }
    znn_reason reason = {""};
    znn_safetensors *file;
    znn_status status = znn_safetensors_open_fn(&file, read_at, &fd, size, &o->codec, &reason);
    if (status == ZNN_OK && !compress && !has_room(file, name, t)) {
        znn_safetensors_free(file);
        return false;
    }
    if (status == ZNN_OK) {
        t->file = file;
        progress_begin(name, content_of(file));
        status =
            (compress ? znn_safetensors_compress : znn_safetensors_decompress)(file, target_write, t, written, &reason);
        progress_end();
        znn_safetensors_free(file);
    }
    free(t->buffer);
    t->buffer = NULL;
    if (status != ZNN_OK && !t->failed)
        message_error(name, "%s", reason.text[0] && status != ZNN_ERROR_LIMIT ? reason.text : message_of(status));
    return status == ZNN_OK;
}

/* Whether the compressed file gives the plain one, byte for byte. */
static bool verify(const cli_options *o, int compressed, const char *name, int plain)
{
    target t = {.fd = plain, .name = name, .compares = true};
    uint64_t written, size;
    if (!transform(o, compressed, name, false, &t, &written))
        return false;
    if (file_size(plain, &size) && size == written)
        return true;
    message_error(name, "verification failed: the other file is longer");
    return false;
}

static bool ends_with(const char *name, const char *suffix)
{
    const size_t size = strlen(name), rest = strlen(suffix);
    return size > rest && strcmp(name + size - rest, suffix) == 0;
}

/* The result's name by the source's; NULL after a message. Freed by the caller. */
static char *result_name(const cli_options *o, const char *name)
{
    const bool compress = o->mode == MODE_COMPRESS;
    size_t size = strlen(name);
    if (!compress && !ends_with(name, COMPRESSED_SUFFIX)) {
        message_error(name, "unknown suffix, since it is not %s; -o says where the result goes", COMPRESSED_SUFFIX);
        return NULL;
    }
    if (!compress)
        size -= strlen(COMPRESSED_SUFFIX);
    else if (ends_with(name, PLAIN_SUFFIX))
        size -= strlen(PLAIN_SUFFIX);
    char *result = allocate(size + sizeof COMPRESSED_SUFFIX);
    memcpy(result, name, size);
    strcpy(result + size, compress ? COMPRESSED_SUFFIX : PLAIN_SUFFIX);
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
    if (stat(result, &existing) == 0 && (!S_ISREG(existing.st_mode) || (existing.st_dev == source->status.st_dev &&
                                                                        existing.st_ino == source->status.st_ino))) {
        message_error(result, S_ISREG(existing.st_mode) ? "is the source itself" : "is not a regular file");
        return false;
    }
    output out;
    if (!output_open(&out, result, o->force))
        return false;
    target t = {.fd = out.fd, .out = &out, .name = result};
    uint64_t written;
    bool ok = transform(o, source->fd, source->name, compress, &t, &written) && source_stayed(source);
    if (ok && ftruncate(out.fd, (off_t)written) != 0) {
        message_error(result, "cannot write: %s", strerror(errno));
        ok = false;
    }
    if (ok && o->remove_source)
        ok = compress ? verify(o, out.fd, result, source->fd) : verify(o, source->fd, source->name, out.fd);
    ok = ok && output_copy_metadata(&out, &source->status) && output_commit(&out, o->remove_source);
    if (!ok) {
        output_discard(&out);
        return false;
    }
    report(source, result, compress, written);
    return !o->remove_source || source_remove(source);
}

static bool test(const cli_options *o, const source_file *source)
{
    target nowhere = {.fd = -1};
    uint64_t written;
    if (!transform(o, source->fd, source->name, false, &nowhere, &written))
        return false;
    message_done(source->name, "is whole: %s of content", size_for_humans(written).text);
    return true;
}

bool safetensors_process(const cli_options *o, const char *name)
{
    source_file source;
    if (!source_open(&source, name, o))
        return false;
    bool ok = false;
    if (source.is_stdin || !S_ISREG(source.status.st_mode)) {
        message_error(source.name, "--safetensors takes files by their names");
    } else if (o->mode == MODE_TEST) {
        ok = test(o, &source);
    } else if (o->output) {
        ok = to_file(o, &source, o->output);
    } else {
        char *result = result_name(o, name);
        ok = result && to_file(o, &source, result);
        free(result);
    }
    source_close(&source);
    return ok;
}

bool safetensors_is_compressed(const char *name)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    znn_safetensors *file = NULL;
    bool compressed = false;
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0 &&
        znn_safetensors_open_fn(&file, read_at, &fd, (uint64_t)info.st_size, NULL, NULL) == ZNN_OK)
        compressed = znn_safetensors_is_compressed(file);
    znn_safetensors_free(file);
    if (fd >= 0)
        close(fd);
    return compressed;
}
