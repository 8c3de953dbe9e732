/* Where the bytes that were made go. */
#ifndef CLI_SINK_H
#define CLI_SINK_H

#include "platform.h"

/* Takes what was made; false, after a message, to stop. */
typedef bool (*stream_sink)(void *opaque, const void *src, size_t size);

bool sink_nothing(void *opaque, const void *src, size_t size);

/* A descriptor, written to from its begin on where it is a file of our own. */
typedef struct {
    int fd;
    const char *name;   /* for messages */
    bool is_own_file;   /* whose space may be had in advance */
    uint64_t written;   /* set: bytes so far */
    uint64_t allocated; /* set: bytes that the file has space for; 0: not known */
} sink_target;

bool sink_write(void *target, const void *src, size_t size);
/* Give back the space beyond what was written. False after a message. */
bool sink_finish(sink_target *target);

#endif
