/* What the command says of a file that cannot be read: the same words in every mode. */
#ifndef CLI_DAMAGE_H
#define CLI_DAMAGE_H

#include "platform.h"

#include <znn.h>

/* Of the status alone, where no place is known. */
const char *damage_text(znn_status status);

/* Of a safetensors file: its reason where there is one, but for a limit, which --memory raises. */
const char *damage_reason(znn_status status, const znn_reason *reason);

/* Of frames: the place is the decoder's. `frame_end`: where the last whole frame ended, 0 if there was none. */
void damage_report(const char *name, znn_status status, const znn_decoder *decoder, uint64_t frame_end);

#endif
