/* How the names of files end. */
#ifndef CLI_SUFFIX_H
#define CLI_SUFFIX_H

#include "platform.h"

#define FRAMES_SUFFIX ".znn" /* of zipnn's files, too */
#define SAFETENSORS_SUFFIX ".safetensors"
#define COMPRESSED_SAFETENSORS_SUFFIX ".znn.safetensors" /* znn's and zipnn's */

/* After at least one character. */
bool has_suffix(const char *name, const char *suffix);

#endif
