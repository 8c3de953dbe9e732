/* For BMI2's shifts. */
#include "zipnn/huff0_loop.h"

const znn_huff0_loops znn_huff0_avx2 = {NULL, one, one_twice, many, encode, mark};
