#define COUNT znn_count_scalar
#include "chunk/counts_loop.h"
