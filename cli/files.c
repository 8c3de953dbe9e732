/*
 * Compress, decompress and test files. A result is written under a temporary
 * name in its own folder and renamed when it is complete, so that neither a signal nor
 * an error leaves a part of it; a source goes only after its result has been
 * read back and is on the disk.
 */
#define _XOPEN_SOURCE 700
#define _DEFAULT_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli.h"

#define BUFFER (1u << 20)
#define SUFFIX ".znn"

static char unfinished[4096]; /* removed by a signal */
static volatile sig_atomic_t has_unfinished;

static void on_signal(int number)
{
    if (has_unfinished)
        unlink(unfinished);
    signal(number, SIG_DFL);
    raise(number);
}

void cli_signals_init(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void cli_unfinished(const char *path)
{
    has_unfinished = 0;
    if (path && strlen(path) < sizeof unfinished) {
        strcpy(unfinished, path);
        has_unfinished = 1;
    }
}

typedef struct {
    int fd;
    const char *path;
    uint64_t bytes;
} stream;

static ssize_t read_some(stream *s, void *buffer, size_t size)
{
    ssize_t n;
    do
        n = read(s->fd, buffer, size);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        s->bytes += (uint64_t)n;
    return n;
}

static bool write_all(stream *s, const void *buffer, size_t size)
{
    const char *p = buffer;
    while (s->fd >= 0 && size) {
        ssize_t n = write(s->fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        size -= (size_t)n;
        s->bytes += (uint64_t)n;
    }
    if (s->fd < 0)
        s->bytes += size;
    return true;
}

static int bad_data(const char *path, znn_status status, uint64_t offset)
{
    cli_error(path, "%s (at byte %llu)", znn_status_message(status), (unsigned long long)offset);
    return EXIT_DATA;
}

/* The whole of in to out (fd -1: nowhere); `size` is in's, or 0. With `compare`
 * the content must be what that descriptor holds. */
static int run_codec(const cli_options *o, bool compress, stream *in, stream *out, uint64_t size, int compare)
{
    const size_t room = BUFFER;
    uint8_t *input = malloc(room), *output = malloc(room), *other = compare >= 0 ? malloc(room) : NULL;
    znn_encoder *encoder = NULL;
    znn_decoder *decoder = NULL;
    int result = EXIT_DATA;
    znn_options codec = o->codec;
    cli_progress progress;
    cli_progress_begin(&progress, in->path, size, o->verbosity);
    if (compress && size)
        codec.content_size = size;
    znn_status status = compress ? znn_encoder_new(&encoder, &codec) : znn_decoder_new(&decoder, &codec);
    if (!input || !output || (compare >= 0 && !other))
        status = ZNN_ERROR_MEMORY;
    if (status != ZNN_OK) {
        cli_error(in->path, "%s", znn_status_message(status));
        goto done;
    }
    bool finished = false, at_end = false, frame_open = false;
    while (!finished) {
        ssize_t n = read_some(in, input, room);
        if (n < 0) {
            cli_error(in->path, "%s", strerror(errno));
            goto done;
        }
        at_end = n == 0;
        znn_in_buffer from = {input, (size_t)n, 0};
        bool again = true;
        while (again) {
            znn_out_buffer to = {output, room, 0};
            size_t pending = 0, before = from.pos;
            int ended = 0;
            if (compress) {
                status = znn_encoder_run(encoder, &to, &from, at_end ? ZNN_END : ZNN_CONTINUE, &pending);
                again = from.pos < from.size || to.pos == to.size || (at_end && pending);
                finished = at_end && !pending;
            } else {
                status = znn_decoder_run(decoder, &to, &from, &ended);
                frame_open = ended ? false : frame_open || from.pos > before;
                again = from.pos < from.size || to.pos == to.size;
                finished = at_end && !again;
            }
            if (status == ZNN_ERROR_ARGUMENT && compress) {
                cli_error(in->path, "its size changed while it was read");
                goto done;
            }
            if (status != ZNN_OK) {
                uint64_t offset = in->bytes;
                if (decoder)
                    znn_decoder_position(decoder, &offset, NULL);
                bad_data(in->path, status, offset);
                goto done;
            }
            if (to.pos && !write_all(out, output, to.pos)) {
                cli_error(out->path, "%s", strerror(errno));
                goto done;
            }
            for (size_t at = 0; compare >= 0 && at < to.pos;) {
                ssize_t m = read(compare, other, to.pos - at);
                if (m <= 0 || memcmp(other, output + at, (size_t)m) != 0) {
                    cli_error(in->path, "what was written is not what was read: the source is kept");
                    goto done;
                }
                at += (size_t)m;
            }
            cli_progress_update(&progress, in->bytes);
        }
    }
    if (!compress && (frame_open || in->bytes == 0)) {
        bad_data(in->path, ZNN_ERROR_TRUNCATED, in->bytes);
        goto done;
    }
    result = 0;
done:
    cli_progress_end(&progress);
    znn_encoder_free(encoder);
    znn_decoder_free(decoder);
    free(input);
    free(output);
    free(other);
    return result;
}

static char *join(const char *a, const char *b)
{
    char *s = malloc(strlen(a) + strlen(b) + 1);
    if (!s) {
        fputs("znn: out of memory\n", stderr);
        exit(EXIT_DATA);
    }
    strcpy(s, a);
    return strcat(s, b);
}

static bool has_suffix(const char *path)
{
    size_t n = strlen(path);
    return n > strlen(SUFFIX) && strcmp(path + n - strlen(SUFFIX), SUFFIX) == 0;
}

static bool sync_folder_of(const char *path)
{
    char *folder = join(path, "");
    char *slash = strrchr(folder, '/');
    if (slash == folder)
        slash[1] = 0;
    else if (slash)
        *slash = 0;
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    free(folder);
    return ok;
}

/* The content that a seekable frame claims, or 0. */
static int read_at(void *opaque, uint64_t offset, void *dst, size_t size)
{
    uint8_t *p = dst;
    while (size) {
        ssize_t n = pread(*(int *)opaque, p, size, (off_t)offset);
        if (n <= 0)
            return 1;
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static uint64_t claimed_size(int fd, uint64_t file_size)
{
    znn_reader *reader;
    if (znn_reader_open_fn(&reader, read_at, &fd, file_size, NULL) != ZNN_OK)
        return 0;
    uint64_t size = znn_reader_size(reader);
    znn_reader_free(reader);
    return size;
}

static bool fits_on_disk(const char *target, uint64_t size)
{
    char *folder = join(target, "");
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = 0;
    struct statvfs v;
    bool ok = statvfs(slash ? folder : ".", &v) != 0 || size / v.f_frsize < v.f_bavail;
    free(folder);
    return ok;
}

/* Verify the result at `temporary` against the source. */
static int verify(const cli_options *o, bool compressed, const char *temporary, const char *source)
{
    int result = open(temporary, O_RDONLY | O_CLOEXEC), original = open(source, O_RDONLY | O_CLOEXEC);
    int status = EXIT_DATA;
    if (result < 0 || original < 0) {
        cli_error(source, "%s", strerror(errno));
    } else if (compressed) {
        stream in = {result, temporary, 0}, out = {-1, "", 0};
        status = run_codec(o, false, &in, &out, 0, original);
        if (status == 0 && read(original, &(char){0}, 1) != 0) {
            cli_error(source, "it grew while it was read: kept");
            status = EXIT_DATA;
        }
    } else {
        stream in = {original, source, 0}, out = {-1, "", 0};
        status = run_codec(o, false, &in, &out, 0, result);
    }
    if (result >= 0)
        close(result);
    if (original >= 0)
        close(original);
    return status;
}

static int process_file(const cli_options *o, const char *path, int source, const struct stat *st)
{
    const bool compress = o->mode == MODE_COMPRESS;
    stream in = {source, path, 0};
    const uint64_t size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
    char *target = NULL;
    if (o->output)
        target = join(o->output, "");
    else if (compress)
        target = join(path, SUFFIX);
    else if (has_suffix(path)) {
        target = join(path, "");
        target[strlen(target) - strlen(SUFFIX)] = 0;
    } else {
        cli_error(path, "unknown suffix, ignored (expected %s; or name the output with -o)", SUFFIX);
        return EXIT_DATA;
    }
    struct stat existing;
    int result = EXIT_DATA;
    if (lstat(target, &existing) == 0) {
        if (!o->force || S_ISDIR(existing.st_mode)) {
            cli_error(target, S_ISDIR(existing.st_mode) ? "is a directory" : "already exists; not overwritten (use -f)");
            goto out_target;
        }
        if (existing.st_dev == st->st_dev && existing.st_ino == st->st_ino) {
            cli_error(target, "is the input itself");
            goto out_target;
        }
    }
    if (!compress && size && !o->force) {
        uint64_t claim = claimed_size(source, size);
        if (!fits_on_disk(target, claim)) {
            cli_error(path, "holds %llu bytes, more than the disk has free (use -f to try)",
                      (unsigned long long)claim);
            goto out_target;
        }
    }
    char *temporary = join(target, ".XXXXXX");
    int fd = mkstemp(temporary);
    if (fd < 0) {
        cli_error(target, "%s", strerror(errno));
        goto out_temporary;
    }
    cli_unfinished(temporary);
    stream out = {fd, target, 0};
    result = run_codec(o, compress, &in, &out, size, -1);
    if (result == 0) {
        struct timespec times[2] = {st->st_atim, st->st_mtim};
        if (S_ISREG(st->st_mode)) {
            if (fchown(fd, st->st_uid, st->st_gid) != 0 && errno != EPERM)
                cli_error(target, "owner not kept: %s", strerror(errno));
            fchmod(fd, st->st_mode & 0777);
            futimens(fd, times);
        }
        if (o->remove_source && (fsync(fd) != 0 || (result = verify(o, compress, temporary, path)) != 0))
            result = EXIT_DATA;
    }
    if (close(fd) != 0 && result == 0) {
        cli_error(target, "%s", strerror(errno));
        result = EXIT_DATA;
    }
    /* link() refuses what has appeared meanwhile, rename() replaces it. */
    if (result == 0 && !o->force && link(temporary, target) == 0) {
        unlink(temporary);
    } else if (result == 0 && !o->force && errno == EEXIST) {
        cli_error(target, "already exists; not overwritten (use -f)");
        result = EXIT_DATA;
    } else if (result == 0 && rename(temporary, target) != 0) {
        cli_error(target, "%s", strerror(errno));
        result = EXIT_DATA;
    }
    if (result != 0)
        unlink(temporary);
    cli_unfinished(NULL);
    if (result == 0 && o->remove_source) {
        if (!sync_folder_of(target) || unlink(path) != 0) {
            cli_error(path, "not removed: %s", strerror(errno));
            result = EXIT_DATA;
        }
    }
    if (result == 0 && o->verbosity > 1) {
        char a[32], b[32];
        uint64_t whole = compress ? in.bytes : out.bytes, stored = compress ? out.bytes : in.bytes;
        fprintf(stderr, "%s: %s => %s (%.2f %%), %s\n", path, cli_size(a, in.bytes), cli_size(b, out.bytes),
                whole ? 100.0 * (double)stored / (double)whole : 0.0, target);
    }
out_temporary:
    free(temporary);
out_target:
    free(target);
    return result;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int process_folder(const cli_options *o, const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        cli_error(path, "%s", strerror(errno));
        return EXIT_DATA;
    }
    char **names = NULL;
    size_t count = 0;
    for (struct dirent *e; (e = readdir(folder));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char **more = realloc(names, (count + 1) * sizeof *names);
        if (!more)
            break;
        names = more;
        names[count++] = join(e->d_name, "");
    }
    closedir(folder);
    if (count)
        qsort(names, count, sizeof *names, by_name);
    int result = 0;
    for (size_t i = 0; i < count; i++) {
        char *slash = join(path, path[strlen(path) - 1] == '/' ? "" : "/"), *file = join(slash, names[i]);
        struct stat st;
        /* In a folder only what there is to do is done: no links, no files of the other kind. */
        if (lstat(file, &st) == 0 && !S_ISLNK(st.st_mode) &&
            (S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && has_suffix(file) == (o->mode != MODE_COMPRESS))))
            if (cli_process(o, file) != 0)
                result = EXIT_DATA;
        free(slash);
        free(file);
        free(names[i]);
    }
    free(names);
    return result;
}

int cli_process(const cli_options *o, const char *path)
{
    if (o->mode == MODE_LIST)
        return cli_list(o, path);
    const bool standard = strcmp(path, "-") == 0;
    struct stat st;
    if (!standard && lstat(path, &st) == 0) {
        if (S_ISLNK(st.st_mode) && !o->force && !o->to_stdout && o->mode != MODE_TEST) {
            cli_error(path, "is a symbolic link, ignored (use -f)");
            return EXIT_DATA;
        }
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            if (o->recursive)
                return process_folder(o, path);
            cli_error(path, "is a directory, ignored (use -r)");
            return EXIT_DATA;
        }
    }
    int fd = standard ? 0 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        cli_error(path, "%s", strerror(errno));
        return EXIT_DATA;
    }
    int result;
    const char *name = standard ? "(stdin)" : path;
    if (!standard && !S_ISREG(st.st_mode) && !o->to_stdout && o->mode != MODE_TEST && !o->force) {
        cli_error(path, "is not a regular file, ignored (use -f or -c)");
        result = EXIT_DATA;
    } else if (o->mode == MODE_TEST || o->to_stdout || (standard && !o->output)) {
        stream in = {fd, name, 0}, out = {o->mode == MODE_TEST ? -1 : 1, "(stdout)", 0};
        if (out.fd == 1 && o->mode == MODE_COMPRESS && isatty(1) && !o->force) {
            cli_error(name, "compressed data is not written to a terminal (use -o, or -f to force)");
            result = EXIT_DATA;
        } else {
            uint64_t size = S_ISREG(st.st_mode) && !standard ? (uint64_t)st.st_size : 0;
            result = run_codec(o, o->mode == MODE_COMPRESS, &in, &out, size, -1);
        }
        if (result == 0 && o->mode == MODE_TEST && o->verbosity > 1)
            fprintf(stderr, "%s: ok, %llu bytes\n", name, (unsigned long long)out.bytes);
        if (result == 0 && o->remove_source && o->mode != MODE_TEST)
            cli_error(name, "not removed: its result went to stdout");
    } else {
        result = process_file(o, standard ? "stdin" : path, fd, &st);
    }
    if (!standard)
        close(fd);
    return result;
}
