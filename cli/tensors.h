/* The tensors of a compressed safetensors file, by the header in its content. */
#ifndef CLI_TENSORS_H
#define CLI_TENSORS_H

#include "platform.h"

#include <znn.h>

typedef struct {
    char *name;
    char *dtype;         /* as the file spells it */
    uint64_t begin, end; /* in the content */
} tensor;

typedef struct {
    tensor *items; /* in the content's order, without overlaps */
    size_t count;
} tensor_list;

/* An empty list if the content is not safetensors, or its header cannot be believed. */
tensor_list tensors_read(znn_reader *reader);
void tensors_free(tensor_list *tensors);

#endif
