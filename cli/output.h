/* A result on its way: written under a temporary name beside its target, which
 * appears complete or not at all. The name follows from the target's, and the
 * file is locked while somebody works: so the next run for the same target
 * removes what a killed one left, and nothing that is in use. */
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
/* Whether `size` bytes of content from `source` fit on the disk; true where that cannot be known, and with force. */
bool output_has_room(const output *out, const char *source, uint64_t size);
/* Permissions, times, and the owner as far as allowed; NULL: those of a new file. */
bool output_copy_metadata(output *out, const struct stat *source);
/* `sync`: and wait until it is on disk. */
bool output_commit(output *out, bool sync);
/* Leave nothing behind. */
void output_discard(output *out);

#endif
