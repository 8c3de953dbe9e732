#include "zipnn/huff0_loop.h"

const znn_huff0_loops znn_huff0_scalar = {NULL, one, one_twice, many, encode, mark};
