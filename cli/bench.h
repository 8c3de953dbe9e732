/* -b: how small, and how fast both ways, in memory. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "options.h"

bool bench_files(const cli_options *options, char **names, size_t count);

#endif
