/* -l: what compressed files hold, by dtype and by tensor. */
#ifndef CLI_LIST_H
#define CLI_LIST_H

#include "options.h"

bool list_files(const cli_options *options, char **names, size_t count);

#endif
