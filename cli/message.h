/* What the command says on stderr, and how it writes names and sizes. */
#ifndef CLI_MESSAGE_H
#define CLI_MESSAGE_H

#include "platform.h"

#include <znn.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(text, values) __attribute__((format(printf, text, values)))
#else
#define PRINTF_LIKE(text, values)
#endif

/* 0 is the normal amount; -1: no notes; -2: no errors either; 1: a line for each file. */
void message_set_verbosity(int verbosity);
int message_verbosity(void);

/* "znn: NAME: reason". NULL for what concerns no file. */
void message_error(const char *name, const char *format, ...) PRINTF_LIKE(2, 3);
/* The same, silenced by -q. */
void message_warning(const char *name, const char *format, ...) PRINTF_LIKE(2, 3);
/* One line about a file that is done: on a terminal, or with -v. */
void message_done(const char *name, const char *format, ...) PRINTF_LIKE(2, 3);

/* What a status means. The limit that was met, where it is one, is that of --memory. */
void message_set_limit(uint64_t bytes);
const char *message_of(znn_status status);

/* A copy of the name whose control characters are '?', so that it can do
 * nothing to a terminal; freed by the caller. Never NULL. */
char *printable(const char *name);

typedef struct {
    char text[24];
} size_text;
size_text size_for_humans(uint64_t size); /* "90.9 MB" */

/* Like malloc, but a failure ends the command with a message. */
void *allocate(size_t size);

#endif
