/* What vector code of more than one instruction set shuffles bytes by. */
#ifndef ZNN_SHUFFLES_H
#define ZNN_SHUFFLES_H

#include <stdint.h>

/* By 8 bits: the lanes whose bit is set, to the top; 0x80, which shuffles make 0, for the others. */
extern const uint64_t znn_compress8[256];

#endif
