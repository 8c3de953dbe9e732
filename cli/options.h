/* The command line. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "platform.h"

#include <znn.h>

typedef enum {
    MODE_COMPRESS,
    MODE_DECOMPRESS,
    MODE_TEST,
    MODE_LIST,
    MODE_BENCHMARK,
    MODE_CONVERT,
    MODE_HELP,
    MODE_VERSION
} cli_mode;

typedef struct {
    cli_mode mode;
    const char *mode_option; /* that set it; NULL if none did */
    const char **files; /* "-" is stdin */
    size_t files_count;
    const char *output; /* of -o; NULL if not given; "-" is stdout */
    bool to_stdout;
    bool force;
    bool recursive;
    bool remove_source;
    bool json;
    bool safetensors; /* --safetensors */
    bool to_zipnn;    /* --format zipnn */
    const char *base; /* of --base; NULL if not given */
    int verbosity;
    double bench_seconds; /* the least time that measuring takes */
    uint64_t bench_bytes; /* the least size of its buffer */
    znn_options codec;
} cli_options;

/* False, with a message, if the command line is not understood. */
bool options_parse(cli_options *options, int argc, char **argv);
void options_free(cli_options *options);

#endif
