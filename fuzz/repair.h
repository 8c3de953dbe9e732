/* Frames whose sums are right again after a mutation. */
#ifndef ZNN_FUZZ_REPAIR_H
#define ZNN_FUZZ_REPAIR_H

#include <stddef.h>
#include <stdint.h>

/* Walk the blocks of the frame at data, as far as they are sound, and write an
 * end block that fits them behind; the header's sum too. Returns the size of the
 * result, at most `room`; `size` if nothing can be done. */
size_t fuzz_repair_frame(uint8_t *data, size_t size, size_t room);

#endif
