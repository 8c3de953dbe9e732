/* For BMI2's shifts. */
#define LOOPS znn_huff0_avx2
#include "zipnn/huff0_loop.h"
