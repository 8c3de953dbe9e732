/*
 * Preloaded into the command, so that a chosen call fails, or ends it, or finds its source changed.
 *
 *   ZNN_SHIM=CALL:N:ACTION     at the N-th CALL (0: at each); CALL may be "any". ACTION is one of
 *     a number                 fail with that errno, having done nothing
 *     short                    write half of what was asked
 *     spoil                    write something else than was asked, as a bad disk does
 *     kill, kill-after         die as by kill -9, before or after the call
 *     shrink, grow, change     do that to the file ZNN_SHIM_FILE, then go on
 *     plant                    make it a symbolic link to the file "victim", then go on
 *   ZNN_SHIM_LOG=FILE          append a line for each call
 *
 * "create" is open() of a new file; "rename" is each of the calls that give a name.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

typedef struct {
    int error; /* to fail with; 0: go on */
    int is_short;
    int spoils;
    int dies_after;
} verdict;

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* By system calls, which no shim sees. */
static void disturb(const char *how)
{
    const char *name = getenv("ZNN_SHIM_FILE");
    if (name && strcmp(how, "plant") == 0) {
        if (symlink("victim", name) != 0)
            abort();
        return;
    }
    int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR);
    struct stat status;
    if (!name || fd < 0 || fstat(fd, &status) != 0)
        abort();
    usleep(20000); /* more than the clock of file times steps */
    if (strcmp(how, "shrink") == 0 && syscall(SYS_ftruncate, fd, status.st_size / 2) != 0)
        abort();
    if (strcmp(how, "shrink") != 0 &&
        syscall(SYS_pwrite64, fd, "change", (size_t)6, strcmp(how, "grow") == 0 ? status.st_size : 1000) != 6)
        abort();
    syscall(SYS_close, fd);
}

static verdict judge(const char *call)
{
    static int count;
    const char *log = getenv("ZNN_SHIM_LOG"), *order = getenv("ZNN_SHIM");
    verdict v = {0};
    if (log) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (fd < 0 || syscall(SYS_write, fd, call, strlen(call)) < 0 || syscall(SYS_write, fd, "\n", (size_t)1) < 0)
            abort();
        syscall(SYS_close, fd);
    }
    char wanted[32], action[32];
    int number;
    if (!order || sscanf(order, "%31[^:]:%d:%31s", wanted, &number, action) != 3 ||
        (strcmp(wanted, call) != 0 && strcmp(wanted, "any") != 0))
        return v;
    count = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    if (number && count != number)
        return v;
    if (strcmp(action, "kill") == 0)
        die();
    v.dies_after = strcmp(action, "kill-after") == 0;
    v.is_short = strcmp(action, "short") == 0;
    v.spoils = strcmp(action, "spoil") == 0;
    v.error = atoi(action);
    if (!v.dies_after && !v.is_short && !v.spoils && !v.error)
        disturb(action);
    return v;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A call with a name and arguments for the shim; `call` is how it is known above. */
#define SHIM(type, name, call, parameters, arguments)                                                                  \
    type name parameters                                                                                               \
    {                                                                                                                  \
        verdict v = judge(call);                                                                                       \
        if (v.error) {                                                                                                 \
            errno = v.error;                                                                                           \
            return -1;                                                                                                 \
        }                                                                                                              \
        type result = REAL(name) arguments;                                                                            \
        if (v.dies_after)                                                                                              \
            die();                                                                                                     \
        return result;                                                                                                 \
    }

/* What is written in the place of `size` bytes; the copy stays to the end. */
static const void *to_write(verdict v, const void *src, size_t size)
{
    unsigned char *copy = v.spoils && size ? malloc(size) : NULL;
    if (!copy)
        return src;
    memcpy(copy, src, size);
    copy[size / 2] ^= 16;
    return copy;
}

#define HALF(size) (v.is_short ? ((size) + 1) / 2 : (size))

SHIM(ssize_t, read, "read", (int fd, void *p, size_t n), (fd, p, n))
SHIM(ssize_t, pread64, "read", (int fd, void *p, size_t n, off64_t at), (fd, p, n, at))
SHIM(ssize_t, write, "write", (int fd, const void *p, size_t n), (fd, to_write(v, p, n), HALF(n)))
SHIM(ssize_t, pwrite64, "write", (int fd, const void *p, size_t n, off64_t at),
     (fd, to_write(v, p, n), HALF(n), at))
SHIM(ssize_t, writev, "write", (int fd, const struct iovec *p, int n), (fd, p, HALF(n)))
SHIM(ssize_t, pwritev64, "write", (int fd, const struct iovec *p, int n, off64_t at), (fd, p, HALF(n), at))
SHIM(int, fsync, "fsync", (int fd), (fd))
SHIM(int, fdatasync, "fsync", (int fd), (fd))
SHIM(int, ftruncate64, "ftruncate", (int fd, off64_t n), (fd, n))
SHIM(int, fchmod, "fchmod", (int fd, mode_t mode), (fd, mode))
SHIM(int, fchown, "fchown", (int fd, uid_t user, gid_t group), (fd, user, group))
SHIM(int, futimens, "futimens", (int fd, const struct timespec times[2]), (fd, times))
SHIM(int, flock, "flock", (int fd, int how), (fd, how))
SHIM(int, close, "close", (int fd), (fd))
SHIM(int, rename, "rename", (const char *a, const char *b), (a, b))
SHIM(int, renameat2, "rename", (int d, const char *a, int e, const char *b, unsigned flags), (d, a, e, b, flags))
SHIM(int, link, "link", (const char *a, const char *b), (a, b))
SHIM(int, unlink, "unlink", (const char *name), (name))

int open64(const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    verdict v = {0};
    if (flags & O_CREAT)
        v = judge("create");
    if (v.error) {
        errno = v.error;
        return -1;
    }
    int fd = REAL(open64)(name, flags, mode);
    if (v.dies_after)
        die();
    return fd;
}
