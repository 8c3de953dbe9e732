/* .safetensors files: plain ones to compressed ones, which are safetensors files too, and back. */
#ifndef CLI_SAFETENSORS_H
#define CLI_SAFETENSORS_H

#include "files.h"

/* The file that the source is, plain or compressed; false after a message. The source must outlive it. */
bool safetensors_open(znn_safetensors **file, source_file *source, const cli_options *options);

/* Compress, decompress or test one file; false after a message. */
bool safetensors_process(const cli_options *options, source_file *source);

#endif
