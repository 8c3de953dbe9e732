#define LOOPS znn_groups_avx2
#include "zipnn/groups_loops.h"
