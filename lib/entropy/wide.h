/*
 * The wide coder: interleaved rANS with 32-bit states and 12-bit
 * probabilities, for any bytes. Slower and more exact than the narrow one.
 *
 * 32 lanes, states x in [2^16, 2^32), byte i of the data belongs to lane i mod
 * 32. To decode: slot = x mod 4096, x = freq * (x / 4096) + slot - start, and
 * where x < 2^16: x = 2^16 x + the next 16-bit number of the stream, in lane
 * order. The stream: the table, the 32 states, the numbers.
 */
#ifndef ZNN_WIDE_H
#define ZNN_WIDE_H

#include "base/base.h"

#define ZNN_WIDE_LANES 32
#define ZNN_WIDE_BITS 12

/* Bytes that coding data with this histogram would take, states and table
 * included; approximate, the same on every machine. */
size_t znn_wide_estimate(const uint32_t counts[256], size_t n);

/* Bytes of dst that znn_wide_encode needs. */
size_t znn_wide_room(size_t n);

/* Encode n bytes, n >= 1, to the begin of dst; returns the size. The histogram must count
 * every byte of src. */
size_t znn_wide_encode(uint8_t *dst, const uint8_t *src, size_t n, const uint32_t counts[256]);

/* Decode exactly n bytes from exactly size bytes. False if they are not valid. */
bool znn_wide_decode(uint8_t *dst, size_t n, const uint8_t *src, size_t size);

/* The decoder's loop on x86-64 with AVX-512: up to `rows` rows of 32 bytes while
 * 64 bytes of refills are left before end. slots: 4096 of symbol, frequency << 8,
 * offset << 20. Returns where the refills go on; *done rows were decoded. */
const uint8_t *znn_wide_rows_avx512(uint8_t *dst, size_t rows, uint32_t states[ZNN_WIDE_LANES], const uint32_t *slots,
                                    const uint8_t *refills, const uint8_t *end, size_t *done);

/* The encoder's: `rows` rows of symbols, backwards, refills before `end`; returns
 * where they begin. By symbol: frequency and start << 16; 2^32 / frequency, rounded down. */
uint8_t *znn_wide_encode_rows_avx512(const uint8_t *src, size_t rows, uint32_t states[ZNN_WIDE_LANES],
                                     const uint32_t places[256], const uint32_t reciprocals[256], uint8_t *end);

#endif
