/* Frequencies in 256ths, of the coders that keep their tables in registers. */
#ifndef ZNN_FREQUENCIES_H
#define ZNN_FREQUENCIES_H

#include "base/base.h"

/* 256 log2(i), rounded: integers, so that every machine chooses alike. */
extern const uint16_t znn_log2_of[257];

/* Frequencies of n codes with counts[], each at least 1, summing to 256; n is at most 65. */
void znn_frequencies_of(uint32_t *freq, const uint32_t *counts, unsigned n);

#endif
