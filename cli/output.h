/* A result on its way: written under a temporary name beside its target, which
 * appears complete or not at all. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include "platform.h"

#include <sys/stat.h>

typedef struct {
    int fd;
    const char *target; /* the caller's; must live as long */
    char *temporary;    /* NULL: written in place, to a device or a pipe */
    bool force;
} output;

/* Once, before the first output: signals that end the command then remove the
 * temporary file too. */
void output_guard_against_signals(void);

/* All return false after a message. The target must not exist, unless force. */
bool output_open(output *out, const char *target, bool force);
/* Permissions, times, and the owner as far as allowed; NULL: those of a new file. */
bool output_copy_metadata(output *out, const struct stat *source);
/* `sync`: and wait until it is on disk. */
bool output_commit(output *out, bool sync);
/* Leave nothing behind. */
void output_discard(output *out);

#endif
