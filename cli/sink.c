#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "message.h"

#define ALLOCATED_AHEAD ((uint64_t)64 << 20)

bool sink_nothing(void *opaque, const void *src, size_t size)
{
    (void)opaque, (void)src, (void)size;
    return true;
}

/* Space in large pieces costs ext4 half of what it costs block by block as they are written. It is a help, no
 * more: a file system that has not so much space, or cannot tell, says so when it is written to. */
static void allocate_ahead(sink_target *target, size_t size)
{
#ifdef __linux__
    while (target->is_own_file && target->written + size > target->allocated) {
        if (fallocate(target->fd, FALLOC_FL_KEEP_SIZE, (off_t)target->allocated, (off_t)ALLOCATED_AHEAD) != 0)
            target->is_own_file = false;
        else
            target->allocated += ALLOCATED_AHEAD;
    }
#else
    (void)target, (void)size;
#endif
}

bool sink_write(void *opaque, const void *src, size_t size)
{
    sink_target *target = opaque;
    allocate_ahead(target, size);
    for (size_t done = 0; done < size;) {
        ssize_t n = write(target->fd, (const char *)src + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            message_error(target->name, "cannot write: %s", strerror(errno));
            return false;
        }
        done += (size_t)n;
    }
    target->written += size;
    return true;
}

bool sink_finish(sink_target *target)
{
    if (target->allocated <= target->written || ftruncate(target->fd, (off_t)target->written) == 0)
        return true;
    message_error(target->name, "cannot write: %s", strerror(errno));
    return false;
}
