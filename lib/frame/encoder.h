/* For who makes many frames: one encoder, with its threads and its memory, for all of them. */
#ifndef ZNN_ENCODER_H
#define ZNN_ENCODER_H

#include "base/base.h"

/* The next call of znn_encoder_run begins a frame of this content, whatever became of the one before. */
void znn_encoder_begin(znn_encoder *encoder, znn_dtype dtype, uint64_t content_size);

#endif
