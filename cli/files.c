#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"
#include "output.h"
#include "stream.h"
#include "tree.h"
#include "zipnn.h"

/* ---- Sources ---- */

static bool may_be_read(const char *name, const struct stat *status, const cli_options *o)
{
    if (S_ISREG(status->st_mode) || S_ISFIFO(status->st_mode))
        return true;
    if (S_ISDIR(status->st_mode))
        message_error(name, "is a directory; -r takes the files in it");
    else if (o->force && (S_ISCHR(status->st_mode) || S_ISBLK(status->st_mode)))
        return true;
    else
        message_error(name, "is not a regular file, ignored");
    return false;
}

bool source_open(source_file *source, const char *name, const cli_options *o)
{
    *source = (source_file){.fd = -1, .name = name, .size = UINT64_MAX};
    if (strcmp(name, "-") == 0) {
        source->fd = STDIN_FILENO;
        source->name = "standard input";
        source->is_stdin = true;
        if (fstat(source->fd, &source->status) != 0) {
            message_error(source->name, "cannot read: %s", strerror(errno));
            return false;
        }
    } else {
        /* Looked at before it is opened, since opening a device may do something. */
        if (stat(name, &source->status) == 0 && !may_be_read(name, &source->status, o))
            return false;
        source->fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (source->fd < 0 || fstat(source->fd, &source->status) != 0) {
            message_error(name, "cannot open: %s", strerror(errno));
            source_close(source);
            return false;
        }
    }
    /* Files of /proc say 0 and hold more. */
    if (S_ISREG(source->status.st_mode) && source->status.st_size > 0 && lseek(source->fd, 0, SEEK_CUR) == 0)
        source->size = (uint64_t)source->status.st_size;
    return true;
}

void source_close(source_file *source)
{
    znn_zipnn_reader_free(source->zipnn);
    source->zipnn = NULL;
    if (source->fd >= 0 && (!source->is_stdin || source->is_spooled))
        close(source->fd);
    source->fd = -1;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->ST_MTIME.tv_sec == b->ST_MTIME.tv_sec && a->ST_MTIME.tv_nsec == b->ST_MTIME.tv_nsec;
}

bool source_stayed(const source_file *source)
{
    struct stat now;
    if (source->size == UINT64_MAX || source->is_spooled)
        return true;
    if (fstat(source->fd, &now) == 0 && is_same(&now, &source->status))
        return true;
    message_error(source->name, "the file changed while it was read");
    return false;
}

static bool source_is_unchanged(const source_file *source)
{
    struct stat now;
    if (stat(source->name, &now) == 0 && is_same(&now, &source->status))
        return true;
    message_error(source->name, "changed meanwhile, and is kept");
    return false;
}

bool source_remove(const source_file *source)
{
    if (!source_is_unchanged(source))
        return false;
    if (unlink(source->name) != 0) {
        message_error(source->name, "cannot remove: %s", strerror(errno));
        return false;
    }
    return true;
}

int read_at(void *opaque, uint64_t offset, void *dst, size_t size)
{
    const int *fd = opaque;
    while (size) {
        ssize_t n = pread(*fd, dst, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        dst = (char *)dst + n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

/* ---- Results ---- */

/* The result's name by the source's; NULL after a message. Freed by the caller. */
static char *target_name(const cli_options *o, const char *name)
{
    size_t size = strlen(name);
    char *target = allocate(size + sizeof ".new.znn");
    memcpy(target, name, size + 1);
    if (o->mode == MODE_COMPRESS) {
        strcpy(target + size, ".znn");
    } else if (ends_with_zipnn_suffix(name)) {
        strcpy(target + size - strlen(ZIPNN_SUFFIX), o->mode == MODE_CONVERT ? ".safetensors.znn" : ".safetensors");
    } else if (o->mode == MODE_CONVERT && ends_with_suffix(name)) {
        /* The result has the source's name where it takes its place. */
        strcpy(target + size - 4, o->remove_source ? ".znn" : ".new.znn");
    } else if (ends_with_suffix(name)) {
        target[size - 4] = 0;
    } else {
        message_error(name, "unknown suffix, since it is not .znn; -o or -c says where the result goes");
        free(target);
        return NULL;
    }
    return target;
}

static stream source_stream(const source_file *source)
{
    return (stream){.fd = source->fd,
                    .name = source->name,
                    .size = source->size,
                    .start = source->start,
                    .start_size = source->start_size};
}

/* Nothing may be written for a bad file: its structure is looked at first, as
 * far as that can be done without decoding. */
static bool check_structure(const cli_options *o, source_file *source, uint64_t *content_size)
{
    *content_size = source->zipnn ? znn_zipnn_reader_size(source->zipnn) : 0;
    if (source->size == UINT64_MAX || source->zipnn)
        return true;
    znn_status status = znn_content_size_fn(read_at, &source->fd, source->size, &o->codec, content_size);
    if (status == ZNN_OK)
        return true;
    /* The decoder can say where. */
    stream s = source_stream(source);
    if (stream_decompress(&s, &o->codec, sink_nothing, NULL))
        message_error(source->name, "%s", message_of(status));
    return false;
}

static bool decompress(const cli_options *o, source_file *source, stream *s, stream_sink sink, void *opaque)
{
    s->zipnn = source->zipnn;
    return s->zipnn ? zipnn_decompress(s, sink, opaque) : stream_decompress(s, &o->codec, sink, opaque);
}

/* For frames: a base is only for the deltas of ZipNN that are read. */
static znn_options without_base(const cli_options *o)
{
    znn_options options = o->codec;
    options.base = NULL;
    options.base_size = 0;
    return options;
}

static bool run_stream(const cli_options *o, source_file *source, stream *s, sink_target to)
{
    *s = source_stream(source);
    if (o->mode == MODE_CONVERT) {
        s->zipnn = source->zipnn;
        s->size = znn_zipnn_reader_size(source->zipnn);
    }
    const znn_options options = without_base(o);
    const bool ok = o->mode == MODE_DECOMPRESS
                        ? decompress(o, source, s, sink_write, &to)
                        : (o->to_zipnn ? zipnn_compress : stream_compress)(s, &options, sink_write, &to);
    return ok && source_stayed(source) && sink_finish(&to);
}

/* That the result in `fd` and the source hold the same. */
static bool verify(const cli_options *o, source_file *source, int fd, const char *target)
{
    const znn_options options = without_base(o);
    if (o->mode == MODE_CONVERT)
        return zipnn_verify_frames(source->zipnn, fd, target, &options);
    if (o->mode == MODE_DECOMPRESS)
        return source->zipnn ? zipnn_verify(source->zipnn, source->name, fd)
                             : stream_verify(source->fd, source->name, fd, &o->codec);
    return o->to_zipnn ? zipnn_verify_file(fd, target, source->fd) : stream_verify(fd, target, source->fd, &o->codec);
}

static void report(const cli_options *o, const stream *s, const char *target)
{
    uint64_t content = o->mode != MODE_DECOMPRESS ? s->consumed : s->produced;
    uint64_t frames = o->mode != MODE_DECOMPRESS ? s->produced : s->consumed;
    double saved = content ? 100.0 - 100.0 * (double)frames / (double)content : 0;
    char *clean = printable(target);
    message_done(s->name, "%.1f %% saved (%s => %s), %s", saved, size_for_humans(s->consumed).text,
                 size_for_humans(s->produced).text, clean);
    free(clean);
}

static bool to_stdout(const cli_options *o, source_file *source)
{
    stream s;
    if (!run_stream(o, source, &s, (sink_target){.fd = STDOUT_FILENO, .name = "standard output"}))
        return false;
    report(o, &s, "standard output");
    return true;
}

static bool to_file(const cli_options *o, source_file *source, const char *target, uint64_t content_size)
{
    struct stat existing;
    bool regular = S_ISREG(source->status.st_mode);
    bool remove_source = o->remove_source && !source->is_stdin && regular;
    bool in_place = stat(target, &existing) == 0 && existing.st_dev == source->status.st_dev &&
                    existing.st_ino == source->status.st_ino;
    if (in_place && (o->mode != MODE_CONVERT || !remove_source)) {
        message_error(source->name, "is its own result's name");
        return false;
    }
    output out;
    if (!output_open(&out, target, o->force || in_place))
        return false;
    remove_source = remove_source && out.temporary;
    stream s;
    const sink_target to = {.fd = out.fd, .name = target, .is_own_file = out.temporary != NULL};
    bool ok = output_has_room(&out, source->name, content_size) && run_stream(o, source, &s, to);
    if (ok && remove_source)
        ok = verify(o, source, out.fd, target);
    ok = ok && output_copy_metadata(&out, regular && !source->is_stdin ? &source->status : NULL) &&
         (!in_place || source_is_unchanged(source)) && output_commit(&out, remove_source);
    if (!ok) {
        output_discard(&out);
        return false;
    }
    report(o, &s, target);
    return !remove_source || in_place || source_remove(source);
}

static bool test(const cli_options *o, source_file *source)
{
    stream s = source_stream(source);
    if (!decompress(o, source, &s, sink_nothing, NULL))
        return false;
    message_done(source->name,
                 source->zipnn ? "can be decoded: %s of content (ZipNN has no checksums)" : "is whole: %s of content",
                 size_for_humans(s.produced).text);
    return true;
}

/* --convert leaves alone what is in one of the current formats. */
static bool is_current(source_file *source)
{
    uint8_t start[4];
    if (source->zipnn || source->size == UINT64_MAX || read_at(&source->fd, 0, start, sizeof start) != 0)
        return false;
    znn_safetensors *file = NULL;
    bool current = znn_is_frame(start, sizeof start);
    if (!current && znn_safetensors_open_fn(&file, read_at, &source->fd, source->size, NULL, NULL) == ZNN_OK)
        current = znn_safetensors_is_compressed(file);
    znn_safetensors_free(file);
    return current;
}

bool file_process(const cli_options *o, const char *name)
{
    source_file source;
    if (!source_open(&source, name, o))
        return false;
    bool ok;
    uint64_t content_size = 0;
    if (o->mode != MODE_COMPRESS && !zipnn_recognise(&source, o)) {
        ok = false;
    } else if (o->mode == MODE_CONVERT && is_current(&source)) {
        message_done(source.name, "is in the current format already");
        ok = true;
    } else if (o->mode == MODE_CONVERT && !source.zipnn) {
        message_error(source.name, "not a ZipNN file");
        ok = false;
    } else if (o->mode == MODE_TEST) {
        ok = test(o, &source);
    } else if (o->mode == MODE_DECOMPRESS && !check_structure(o, &source, &content_size)) {
        ok = false;
    } else if (!o->output && (o->to_stdout || source.is_stdin)) {
        ok = to_stdout(o, &source);
    } else if (o->output) {
        ok = to_file(o, &source, o->output, content_size);
    } else {
        char *target = target_name(o, name);
        ok = target && to_file(o, &source, target, content_size);
        free(target);
    }
    source_close(&source);
    return ok;
}
