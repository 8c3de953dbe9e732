/* The progress line: on a terminal, for work that takes over a second. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "platform.h"

/* total: UINT64_MAX if unknown. */
void progress_begin(const char *name, uint64_t total);
void progress_update(uint64_t done);
void progress_end(void);

/* Take the line away while something else is written, by any thread; it comes back. */
void progress_hold(void);
void progress_release(void);

/* Seconds on a clock that only moves forward. */
double seconds_now(void);

#endif
