#define LOOP(name) name
#include "zipnn/huff0_loop.h"
