/* --safetensors: plain .safetensors files to compressed ones, which are safetensors files too, and back. */
#ifndef CLI_SAFETENSORS_H
#define CLI_SAFETENSORS_H

#include "options.h"

/* Compress, decompress or test one file; false after a message. */
bool safetensors_process(const cli_options *options, const char *name);

/* True for a compressed one, which -d and -t know without being told. No message. */
bool safetensors_is_compressed(const char *name);

#endif
