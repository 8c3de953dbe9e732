#define LOOPS znn_groups_avx512
#include "zipnn/groups_loops.h"
