#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "message.h"

/* Of the target's name, so that the next run finds what a killed one left; or six that mkstemps replaces. */
#define DERIVED_NAME ".znn-%016llx.tmp"
#define RANDOM_NAME ".znn-" "XX" "XX" "XX" ".tmp"
#define RANDOM_SUFFIX 4 /* what follows them */
#define NAME_ROOM 32
#define ATTEMPTS 100

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

/* FNV-1a of the target's name without its folder. */
static unsigned long long name_hash(const char *target)
{
    const char *slash = strrchr(target, '/');
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const char *c = slash ? slash + 1 : target; *c; c++)
        hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    return hash;
}

/* Whoever renames or removes a temporary file holds its lock, so that what was
 * locked under its name stays under it. */
static bool is_still(const char *path, int fd)
{
    struct stat by_name, opened;
    return lstat(path, &by_name) == 0 && fstat(fd, &opened) == 0 && by_name.st_dev == opened.st_dev &&
           by_name.st_ino == opened.st_ino;
}

static bool lock(int fd, int how)
{
    int failed;
    do {
        failed = flock(fd, how);
    } while (failed && errno == EINTR);
    return failed == 0;
}

typedef enum { LEFTOVER_NONE, LEFTOVER_IN_USE, LEFTOVER_STAYS } leftover;

/* Remove what a killed run left under the temporary name: a file that nobody has locked. */
static leftover remove_leftover(const char *path)
{
    const int how = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = open(path, O_RDWR | how); /* network file systems lock only what may be written */
    if (fd < 0 && errno == EACCES)
        fd = open(path, O_RDONLY | how);
    if (fd < 0)
        return errno == ENOENT ? LEFTOVER_NONE : LEFTOVER_STAYS;
    struct stat status;
    leftover result = LEFTOVER_STAYS;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        if (!lock(fd, LOCK_EX | LOCK_NB))
            result = errno == EWOULDBLOCK ? LEFTOVER_IN_USE : LEFTOVER_STAYS;
        else if (!is_still(path, fd) || unlink(path) == 0)
            result = LEFTOVER_NONE;
    }
    close(fd);
    return result;
}

/* A new file under the derived name, locked: nobody else's, never one that was there. -1 with errno. */
static int make_derived(const char *path)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        leftover found = remove_leftover(path);
        if (found != LEFTOVER_NONE) {
            errno = found == LEFTOVER_IN_USE ? EWOULDBLOCK : EEXIST;
            return -1;
        }
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EEXIST)
            continue;
        /* Another run may take it for a leftover until it is locked; a file system without locks has to do without. */
        if (fd < 0 || !lock(fd, LOCK_EX) || is_still(path, fd))
            return fd;
        close(fd);
    }
    errno = EEXIST;
    return -1;
}

static void name_temporary(output *out)
{
    char *folder = folder_of(out->target);
    const size_t size = strlen(folder);
    out->temporary = allocate(size + NAME_ROOM);
    memcpy(out->temporary, folder, size);
    snprintf(out->temporary + size, NAME_ROOM, DERIVED_NAME, name_hash(out->target));
    free(folder);
}

/* False after a message. */
static bool open_temporary(output *out)
{
    sigset_t old;
    block_signals(&old);
    out->fd = make_derived(out->temporary);
    if (out->fd < 0 && errno == EEXIST) { /* somebody's who cannot be asked: another user, or no locks here */
        strcpy(strrchr(out->temporary, '/') + 1, RANDOM_NAME);
        out->fd = mkstemps(out->temporary, RANDOM_SUFFIX);
        if (out->fd >= 0)
            fcntl(out->fd, F_SETFD, FD_CLOEXEC);
    }
    const int error = errno;
    if (out->fd >= 0)
        temporary_now = out->temporary;
    unblock_signals(&old);
    if (out->fd >= 0)
        return true;
    if (error == EWOULDBLOCK)
        message_error(out->target, "another znn is writing it");
    else
        message_error(out->target, "cannot write in its folder: %s", strerror(error));
    forget_temporary(out);
    return false;
}

/* Written in place. What was looked at must be what is opened: nothing may slip a file under it. */
static bool open_in_place(output *out, const struct stat *seen)
{
    struct stat opened;
    out->fd = open(out->target, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (out->fd < 0) {
        message_error(out->target, "cannot open: %s", strerror(errno));
        return false;
    }
    if (fstat(out->fd, &opened) == 0 && opened.st_dev == seen->st_dev && opened.st_ino == seen->st_ino)
        return true;
    message_error(out->target, "was replaced meanwhile");
    output_discard(out);
    return false;
}

bool output_open(output *out, const char *target, bool force)
{
    *out = (output){.fd = -1, .target = target, .force = force};
    struct stat status;
    if (stat(target, &status) == 0 && !S_ISREG(status.st_mode)) {
        if (!S_ISDIR(status.st_mode))
            return open_in_place(out, &status);
        message_error(target, "is a directory; -o takes a file's name");
        return false;
    }
    name_temporary(out);
    if (!force && lstat(target, &status) == 0) {
        message_error(target, "already exists; -f overwrites it");
        remove_leftover(out->temporary);
        forget_temporary(out);
        return false;
    }
    return open_temporary(out);
}

bool output_has_room(const output *out, const char *source, uint64_t size)
{
    struct statvfs disk;
    if (out->force || !out->temporary || fstatvfs(out->fd, &disk) != 0)
        return true;
    uint64_t available = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (size <= available)
        return true;
    message_error(source, "its content is %s, more than the %s that are free there; -f tries all the same",
                  size_for_humans(size).text, size_for_humans(available).text);
    return false;
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
#ifdef RENAME_NOREPLACE
    if (renameat2(AT_FDCWD, out->temporary, AT_FDCWD, out->target, RENAME_NOREPLACE) == 0)
        return true;
    if (errno != EINVAL && errno != ENOSYS) /* what old kernels and some file systems say */
        return false;
#endif
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

/* Closing tells of writes that failed late, on network file systems; the lock must stay until the file has its name. */
static bool close_a_copy(int fd)
{
    int copy = dup(fd);
    return copy >= 0 && close(copy) == 0;
}

static bool failed(const output *out, const char *what)
{
    message_error(out->target, "%s: %s", what, strerror(errno));
    return false;
}

bool output_commit(output *out, bool sync)
{
    if (out->temporary && sync && fsync(out->fd) != 0)
        return failed(out, "cannot sync to disk");
    if (!close_a_copy(out->fd))
        return failed(out, "cannot write");
    if (out->temporary) {
        sigset_t old;
        block_signals(&old); /* the name may be another run's as soon as it is free */
        const bool taken = take_name(out);
        const int error = errno;
        if (taken)
            forget_temporary(out);
        unblock_signals(&old);
        errno = error;
        if (!taken)
            return failed(out, "cannot put it in place");
    }
    close(out->fd);
    out->fd = -1;
    return !sync || sync_folder(out->target) || failed(out, "cannot sync its folder");
}

void output_discard(output *out)
{
    if (out->temporary) {
        unlink(out->temporary);
        forget_temporary(out);
    }
    if (out->fd >= 0)
        close(out->fd);
    out->fd = -1;
}
