/* libFuzzer's mutations, after most of which the frame is made whole again; for
 * targets whose input is FRAME_CHOICES bytes and a frame. */
#ifndef ZNN_FUZZ_FRAME_MUTATOR_H
#define ZNN_FUZZ_FRAME_MUTATOR_H

#include "fuzz.h"
#include "repair.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

#ifdef ZNN_FUZZ_LIBFUZZER
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 8 == 0 || size < FRAME_CHOICES)
        return size;
    return FRAME_CHOICES + fuzz_repair_frame(data + FRAME_CHOICES, size - FRAME_CHOICES, max_size - FRAME_CHOICES);
}
#endif

#endif
