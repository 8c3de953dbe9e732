#include "recognise.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "damage.h"
#include "message.h"
#include "sink.h"
#include "stream.h"
#include "suffix.h"

#define COPY_SIZE ((size_t)1 << 20)
#define HEADER_MAX ((uint64_t)100000000) /* of safetensors; text that has a '{' there makes a larger number */

/* A length, and the JSON that begins after it. */
static bool may_be_safetensors(const uint8_t *start, size_t size)
{
    uint64_t length = 0;
    for (unsigned i = 8; size == SOURCE_START && i-- > 0;)
        length = length << 8 | start[i];
    return size == SOURCE_START && start[8] == '{' && length <= HEADER_MAX;
}

bool begins_as_safetensors(const source_file *source)
{
    uint8_t start[SOURCE_START];
    int fd = source->fd;
    return source->size != UINT64_MAX && source->size >= sizeof start && read_at(&fd, 0, start, sizeof start) == 0 &&
           may_be_safetensors(start, sizeof start);
}

/* The rest of a pipe, behind what was looked at, into a file without a name. */
static bool spool(source_file *source)
{
    FILE *file = tmpfile();
    int fd = file ? fcntl(fileno(file), F_DUPFD_CLOEXEC, 3) : -1;
    if (file)
        fclose(file);
    uint8_t *buffer = allocate(COPY_SIZE);
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
        n = ok ? read_full(source->fd, buffer, COPY_SIZE) : 0;
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

static bool zipnn_failed(const source_file *source, znn_status status)
{
    switch (status) {
    case ZNN_ERROR_FORMAT: message_error(source->name, "a ZipNN file whose structure is damaged"); break;
    case ZNN_ERROR_UNSUPPORTED:
        message_error(source->name, "a ZipNN file of a version or a kind that is not supported");
        break;
    case ZNN_ERROR_BASE: message_error(source->name, "the base's size is not that of this ZipNN file's content"); break;
    default: message_error(source->name, "%s", damage_text(status)); break;
    }
    return false;
}

static bool open_zipnn(source_file *source, const cli_options *o)
{
    znn_status status = znn_zipnn_reader_open_fn(&source->zipnn, read_at, &source->fd, source->size, &o->codec);
    return status == ZNN_OK || zipnn_failed(source, status);
}

/* znn's, plain, or ZipNN's. */
static bool open_safetensors(source_file *source, const cli_options *o)
{
    znn_reason reason = {""};
    const znn_status status =
        znn_safetensors_open_fn(&source->safetensors, read_at, &source->fd, source->size, &o->codec, &reason);
    if (status == ZNN_OK && znn_safetensors_is_compressed(source->safetensors))
        return true;
    const znn_status as_zipnn =
        znn_zipnn_reader_open_fn(&source->zipnn, read_at, &source->fd, source->size, &o->codec);
    if (as_zipnn == ZNN_OK) {
        znn_safetensors_free(source->safetensors);
        source->safetensors = NULL;
        return true;
    }
    if (as_zipnn == ZNN_ERROR_UNSUPPORTED || as_zipnn == ZNN_ERROR_BASE)
        return zipnn_failed(source, as_zipnn);
    if (status != ZNN_OK)
        message_error(source->name, "%s", damage_reason(status, &reason));
    return status == ZNN_OK;
}

bool recognise(source_file *source, const cli_options *o)
{
    const bool seekable = source->size != UINT64_MAX;
    const ptrdiff_t n = seekable ? pread(source->fd, source->start, SOURCE_START, 0)
                                 : read_full(source->fd, source->start, SOURCE_START);
    if (n < 0) {
        message_error(source->name, "cannot read: %s", strerror(errno));
        return false;
    }
    const size_t size = (size_t)n;
    const bool zipnn = znn_zipnn_is(source->start, size);
    /* One that was cut short or damaged at its begin is known by its name alone. */
    const bool safetensors = may_be_safetensors(source->start, size) ||
                             (seekable && has_suffix(source->name, SAFETENSORS_SUFFIX) &&
                              !znn_is_frame(source->start, size));
    source->start_size = seekable ? 0 : size;
    if (!zipnn && !safetensors)
        return true;
    if (!seekable && !spool(source))
        return false;
    return zipnn ? open_zipnn(source, o) : open_safetensors(source, o);
}
