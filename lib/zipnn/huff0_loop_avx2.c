/* For BMI2's shifts. */
#define LOOP(name) name##_avx2
#include "zipnn/huff0_loop.h"
