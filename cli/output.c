#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"

#define TEMPORARY_NAME ".znn-" "XX" "XX" "XX" ".tmp" /* six, which mkstemps replaces */
#define TEMPORARY_SUFFIX 4 /* what follows them */

/* ---- Signals ---- */

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGXFSZ, SIGXCPU};
#define SIGNALS_COUNT (sizeof signals / sizeof *signals)

static char *volatile temporary_now; /* what a signal must remove */

static void on_signal(int number)
{
    if (temporary_now)
        unlink(temporary_now);
    signal(number, SIG_DFL);
    raise(number);
}

void output_guard_against_signals(void)
{
    for (size_t i = 0; i < SIGNALS_COUNT; i++) {
        struct sigaction action = {.sa_handler = on_signal}, old;
        sigfillset(&action.sa_mask);
        sigdelset(&action.sa_mask, signals[i]);
        /* What the parent chose to ignore stays ignored: nohup, for one. */
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
}

static void block_signals(sigset_t *old)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < SIGNALS_COUNT; i++)
        sigaddset(&set, signals[i]);
    sigprocmask(SIG_BLOCK, &set, old);
}

static void unblock_signals(const sigset_t *old)
{
    sigprocmask(SIG_SETMASK, old, NULL);
}

/* ---- Files ---- */

/* The folder of a path, with its final slash; "./" if it names none. Freed by the caller. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t size = slash ? (size_t)(slash - path) + 1 : 0;
    char *folder = allocate(size + 3);
    memcpy(folder, slash ? path : "./", slash ? size : 2);
    folder[slash ? size : 2] = 0;
    return folder;
}

static void forget_temporary(output *out)
{
    temporary_now = NULL;
    free(out->temporary);
    out->temporary = NULL;
}

bool output_open(output *out, const char *target, bool force)
{
    *out = (output){.fd = -1, .target = target, .force = force};
    struct stat status;
    if (stat(target, &status) == 0 && !S_ISREG(status.st_mode)) {
        if (S_ISDIR(status.st_mode)) {
            message_error(target, "is a directory");
            return false;
        }
        out->fd = open(target, O_WRONLY | O_CLOEXEC);
        if (out->fd < 0)
            message_error(target, "cannot open: %s", strerror(errno));
        return out->fd >= 0;
    }
    if (!force && lstat(target, &status) == 0) {
        message_error(target, "already exists; -f overwrites it");
        return false;
    }
    char *folder = folder_of(target);
    out->temporary = allocate(strlen(folder) + sizeof TEMPORARY_NAME);
    strcpy(out->temporary, folder);
    strcat(out->temporary, TEMPORARY_NAME);
    free(folder);
    sigset_t old;
    block_signals(&old);
    out->fd = mkstemps(out->temporary, TEMPORARY_SUFFIX);
    int error = errno;
    if (out->fd >= 0)
        temporary_now = out->temporary;
    unblock_signals(&old);
    if (out->fd < 0) {
        message_error(target, "cannot write in its folder: %s", strerror(error));
        forget_temporary(out);
        return false;
    }
    fcntl(out->fd, F_SETFD, FD_CLOEXEC);
    return true;
}

bool output_copy_metadata(output *out, const struct stat *source)
{
    if (!out->temporary)
        return true;
    if (!source) {
        mode_t mask = umask(0);
        umask(mask);
        if (fchmod(out->fd, 0666 & ~mask) == 0)
            return true;
        message_error(out->target, "cannot set permissions: %s", strerror(errno));
        return false;
    }
    mode_t mode = source->st_mode & 0777;
    /* Who cannot give the file to its group gives that group no more than others get. */
    if (fchown(out->fd, (uid_t)-1, source->st_gid) != 0)
        mode &= ~(mode_t)070 | (mode & 07) << 3;
    if (fchown(out->fd, source->st_uid, (gid_t)-1) != 0) {
        /* Only root may: the file then belongs to who made it. */
    }
    struct timespec times[2] = {source->ST_ATIME, source->ST_MTIME};
    if (fchmod(out->fd, mode) != 0 || futimens(out->fd, times) != 0) {
        message_error(out->target, "cannot set permissions and times: %s", strerror(errno));
        return false;
    }
    return true;
}

static bool sync_folder(const char *path)
{
    char *folder = folder_of(path);
    int fd = open(folder, O_RDONLY | O_CLOEXEC);
    free(folder);
    /* Some file systems cannot sync a folder, and say EINVAL. */
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Give the temporary file its name, without a moment in which another file of that name could be lost. */
static bool take_name(const output *out)
{
    if (out->force)
        return rename(out->temporary, out->target) == 0;
    if (link(out->temporary, out->target) == 0)
        return unlink(out->temporary) == 0;
    if (errno == EEXIST)
        return false;
    /* No hard links here. */
    struct stat status;
    if (lstat(out->target, &status) == 0) {
        errno = EEXIST;
        return false;
    }
    return rename(out->temporary, out->target) == 0;
}

bool output_commit(output *out, bool sync)
{
    if (out->temporary && sync && fsync(out->fd) != 0) {
        message_error(out->target, "cannot sync to disk: %s", strerror(errno));
        return false;
    }
    int fd = out->fd;
    out->fd = -1;
    if (close(fd) != 0) {
        message_error(out->target, "cannot write: %s", strerror(errno));
        return false;
    }
    if (!out->temporary)
        return true;
    if (!take_name(out)) {
        message_error(out->target, "cannot put it in place: %s", strerror(errno));
        return false;
    }
    forget_temporary(out);
    if (sync && !sync_folder(out->target)) {
        message_error(out->target, "cannot sync its folder: %s", strerror(errno));
        return false;
    }
    return true;
}

void output_discard(output *out)
{
    if (out->fd >= 0)
        close(out->fd);
    out->fd = -1;
    if (out->temporary) {
        unlink(out->temporary);
        forget_temporary(out);
    }
}
