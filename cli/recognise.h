/* What kind of file a source is, by its first bytes. */
#ifndef CLI_RECOGNISE_H
#define CLI_RECOGNISE_H

#include "files.h"

/* Sets source->zipnn or source->safetensors if it is one of those; otherwise it is frames, or nothing of ours, which
 * the decoder tells. A pipe's content goes to a temporary file where that needs it, since parts are not in order; of
 * other pipes, the bytes looked at wait in source->start. False after a message: it cannot be read, or is damaged. */
bool recognise(source_file *source, const cli_options *options);

/* Of a regular file: it begins as safetensors does. */
bool begins_as_safetensors(const source_file *source);

#endif
