/*
 * The narrow coder: interleaved rANS with 16-bit states and 8-bit
 * probabilities, for at most 64 symbols. J. Duda, arXiv 1311.2540; the
 * interleaving is F. Giesen's, arXiv 1402.3392.
 *
 * Each of 64, 128 or 256 lanes has a state x in [256, 65536). To decode:
 *     slot = x mod 256;  symbol s: start(s) <= slot < start(s) + freq(s)
 *     x = freq(s) * (x / 256) + slot - start(s);  if x < 256: x = 256 x + next byte
 * and all lanes take their bytes from one stream, in lane order, row by row. A
 * row is one symbol of every lane. Encoding runs backwards and begins with the
 * states 0x8000 + 15 payload bits, so that the states carry data that would have been
 * stored anyway, and cost a bit each.
 */
#ifndef ZNN_NARROW_H
#define ZNN_NARROW_H

#include "base/base.h"

#define ZNN_NARROW_SYMBOLS 64
#define ZNN_NARROW_LANES_MAX 256
/* A row reads at most one byte a lane; vectors read 64 bytes at a time. */
#define ZNN_NARROW_SLACK (ZNN_NARROW_LANES_MAX + 64)

/* Symbols are bytes that differ in their low 6 bits; every array indexed by
 * low 6 bits is a vector register, or two or four, of the SIMD decoders. */
typedef struct {
    uint8_t symbol_of_slot[256];
    uint8_t freq[ZNN_NARROW_SYMBOLS];  /* 0: no such symbol */
    uint8_t start[ZNN_NARROW_SYMBOLS];
    unsigned count;
    uint8_t order[ZNN_NARROW_SYMBOLS]; /* the symbols, in the table's order */
} znn_narrow_table;

/* Make a table of `count` symbols with counts[], 2 <= count <= 64. */
void znn_narrow_table_build(znn_narrow_table *table, const uint8_t *symbols, const uint32_t *counts, unsigned count);
size_t znn_narrow_table_write(const znn_narrow_table *table, uint8_t *dst); /* at most 129 bytes */
/* Bytes read, 0 if the table is invalid or does not fit into size. */
size_t znn_narrow_table_read(znn_narrow_table *table, const uint8_t *src, size_t size);

typedef struct {
    const znn_narrow_table *table;
    const uint8_t *next, *end; /* the stream */
    unsigned lanes;
    bool failed;               /* the stream ended too early */
    _Alignas(64) uint8_t low[ZNN_NARROW_LANES_MAX];
    _Alignas(64) uint8_t high[ZNN_NARROW_LANES_MAX];
    uint8_t tail[2 * ZNN_NARROW_SLACK]; /* the stream's last bytes, so that vectors may read past them */
    bool in_tail;
} znn_narrow_decoder;

/* Begin: reads the states. False if size is less than 2 * lanes. */
bool znn_narrow_decoder_begin(znn_narrow_decoder *d, const znn_narrow_table *table, unsigned lanes, const uint8_t *src,
                              size_t size);
/* True while the next row can be decoded without reading past the stream's
 * readable end; moves to a padded copy of the stream's tail when needed. */
bool znn_narrow_decoder_ready(znn_narrow_decoder *d);

/* Decode rows * lanes symbols to out. Sets d->failed on a short stream. */
void znn_narrow_decode_scalar(znn_narrow_decoder *d, uint8_t *out, size_t rows);
/* Elsewhere than on x86-64 this is never chosen, and is not there. */
void znn_narrow_decode_avx512(znn_narrow_decoder *d, uint8_t *out, size_t rows);

/* Encode rows * lanes symbols; the bytes are written so that they end at
 * dst_end, at most rows * lanes + 2 * lanes of them. initial: the lanes' first
 * states, 0x8000 or more. Returns the stream's size, states included. */
size_t znn_narrow_encode_scalar(const znn_narrow_table *table, unsigned lanes, const uint8_t *symbols, size_t rows,
                                const uint16_t *initial, uint8_t *dst_end);
size_t znn_narrow_encode_avx512(const znn_narrow_table *table, unsigned lanes, const uint8_t *symbols, size_t rows,
                                const uint16_t *initial, uint8_t *dst_end);

#endif
