#define LOOPS znn_huff0_scalar
#include "zipnn/huff0_loop.h"
