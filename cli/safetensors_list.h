/* What -l says of safetensors files, compressed and plain. */
#ifndef CLI_SAFETENSORS_LIST_H
#define CLI_SAFETENSORS_LIST_H

#include "files.h"

#include <jansson.h>

/* False after a message. */
bool safetensors_list(const source_file *source, bool json, json_t *results);

#endif
