/* What the parts of the command share. */
#ifndef ZNN_CLI_H
#define ZNN_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "znn.h"

#define EXIT_DATA 1  /* bad data, or a file that cannot be read or written */
#define EXIT_USAGE 2

typedef enum { MODE_COMPRESS, MODE_DECOMPRESS, MODE_TEST, MODE_LIST, MODE_BENCH } mode;

typedef struct {
    mode mode;
    znn_options codec;
    bool to_stdout, remove_source, force, recursive, json;
    int verbosity; /* 0: errors only, 1: default, 2: more */
    const char *output;
    const char **inputs; /* "-" is stdin */
    int inputs_count;
} cli_options;

/* Each returns 0, or EXIT_DATA after a message on stderr. */
int cli_process(const cli_options *options, const char *path);
int cli_list(const cli_options *options, const char *path);
int cli_bench(const cli_options *options, const char *path);

/* "znn: PATH: reason" on stderr. */
void cli_error(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "12.3 MB" into text. */
const char *cli_size(char text[32], uint64_t bytes);

/* A line on stderr for work over a second, if stderr is a terminal. */
typedef struct {
    const char *path;
    uint64_t total; /* bytes, 0 if unknown */
    double begun, shown;
    bool enabled, visible;
} cli_progress;
void cli_progress_begin(cli_progress *progress, const char *path, uint64_t total, int verbosity);
void cli_progress_update(cli_progress *progress, uint64_t done);
void cli_progress_end(cli_progress *progress);

double cli_now(void); /* seconds */

/* Signals remove the unfinished output, at `path` until NULL is given. */
void cli_signals_init(void);
void cli_unfinished(const char *path);

#endif
