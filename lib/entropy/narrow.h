/*
 * The narrow coder: interleaved rANS with 16-bit states and 8-bit
 * probabilities, for at most 64 symbols. J. Duda, arXiv 1311.2540; the
 * interleaving is F. Giesen's, arXiv 1402.3392.
 *
 * Each of 64, 128 or 256 lanes has a state x in [256, 65536). To decode:
 *     slot = x mod 256;  index s: the slot's;  offset: how many slots of s are below it
 *     x = freq(s) * (x / 256) + offset;  if x < 256: x = 256 x + next byte
 * and all lanes take their bytes from one stream, in lane order, row by row. A
 * row is one symbol of every lane. Encoding runs backwards and begins with the
 * states 0x8000 + 15 payload bits, so that the states carry data that would have been
 * stored anyway, and cost a bit each.
 *
 * The slots of an index are neighbours, which decoders with 16-byte shuffles can
 * count off, or spread over all 256, which saves 0.01 bits a symbol: states this
 * short otherwise stray from their due.
 *
 * What is coded is an index of 6 bits: the symbol modulo 64. Of symbols with the
 * same index the table knows one. The rarer symbols, for which 1/256 is too much,
 * share one code, the escape; which of them it is stands in a list of indices,
 * taken in order, lane by lane and row by row, as the bytes are.
 */
#ifndef ZNN_NARROW_H
#define ZNN_NARROW_H

#include "base/cpu.h"

#define ZNN_NARROW_INDICES 64
#define ZNN_NARROW_ESCAPE 0x80 /* set in an escape's code; the low 6 bits are tail[0] */
#define ZNN_NARROW_LANES_MAX 256
#define ZNN_NARROW_SPREAD 159 /* odd, and near 256 times the golden ratio: any run of slots comes apart evenly */
#define ZNN_NARROW_TABLE_MAX (12 + 3 * ZNN_NARROW_INDICES)
/* A row reads at most one byte a lane; vectors read 64 bytes at a time. */
#define ZNN_NARROW_SLACK (ZNN_NARROW_LANES_MAX + 64)

/* Arrays by index are a vector register, or two or four, of the SIMD decoders. */
typedef struct {
    uint8_t code_of_slot[256];
    uint8_t offset_of_slot[256];
    uint8_t slot_of[256]; /* by start + offset: what the encoder needs */
    bool spread;
    uint8_t freq[ZNN_NARROW_INDICES]; /* 0: not coded. The escape's stand at tail[0] */
    uint8_t start[ZNN_NARROW_INDICES];
    uint16_t symbol[ZNN_NARROW_INDICES];
    uint64_t known;                   /* bit i: index i has a symbol */
    uint8_t tail[ZNN_NARROW_INDICES]; /* the indices that are escaped, in the table's order */
    unsigned tail_count;
    unsigned escape_freq;
    unsigned most;        /* the highest frequency */
    unsigned escape_bits; /* of an escape's place in tail[] */
    unsigned base;        /* the symbols are base to base + 63, but for a few far ones */
} znn_narrow_table;

/* Make the table for symbols of symbol_bits with counts[], `elements` in all.
 * Returns the estimated bits of all of them, table and escapes included and
 * with 32 for every element whose symbol is not known; UINT64_MAX if too many are.
 * It is not laid out yet. */
uint64_t znn_narrow_table_build(znn_narrow_table *table, const uint32_t *counts, unsigned symbol_bits, size_t elements,
                                bool spread);
/* Fill in everything that follows from spread, base, known, symbol, freq and escape_freq. */
void znn_narrow_table_lay_out(znn_narrow_table *table);
size_t znn_narrow_table_write(const znn_narrow_table *table, uint8_t *dst); /* at most TABLE_MAX bytes */
/* Bytes read, 0 if the table is invalid or does not fit into size. */
size_t znn_narrow_table_read(znn_narrow_table *table, unsigned symbol_bits, const uint8_t *src, size_t size);

/* Codes numbered in the order of their slots before these are spread, for decoders that read
 * tables by that number; how many there are, and the slots' numbers. */
unsigned znn_narrow_ranks(const znn_narrow_table *table, uint8_t codes[ZNN_NARROW_INDICES], uint8_t rank_of_slot[256]);

typedef struct {
    const znn_narrow_table *table;
    const uint8_t *next, *end; /* the stream */
    const uint8_t *escaped;    /* indices; one for every symbol, and 64 more, must be readable */
    unsigned lanes;
    bool failed; /* the stream ended too early */
    _Alignas(64) uint8_t low[ZNN_NARROW_LANES_MAX];
    _Alignas(64) uint8_t high[ZNN_NARROW_LANES_MAX];
    uint8_t tail[2 * ZNN_NARROW_SLACK]; /* the stream's last bytes, so that vectors may read past them */
    bool in_tail;
} znn_narrow_decoder;

/* Begin: reads the states. False if size is less than 2 * lanes. */
bool znn_narrow_decoder_begin(znn_narrow_decoder *d, const znn_narrow_table *table, unsigned lanes, const uint8_t *src,
                              size_t size, const uint8_t *escaped);
/* Rows that can be decoded without reading past the stream's readable end; 0 if
 * the stream has failed. Moves to a padded copy of the stream's tail when needed. */
size_t znn_narrow_decoder_ready(znn_narrow_decoder *d);

/* Decode rows * lanes indices to out. Sets d->failed on a short stream. */
void znn_narrow_decode_scalar(znn_narrow_decoder *d, uint8_t *out, size_t rows);
/* Those of another processor's family are never chosen, and are not there. */
void znn_narrow_decode_neon(znn_narrow_decoder *d, uint8_t *out, size_t rows);
void znn_narrow_decode_avx2(znn_narrow_decoder *d, uint8_t *out, size_t rows);
void znn_narrow_decode_avx512(znn_narrow_decoder *d, uint8_t *out, size_t rows);

/* Encode rows * lanes codes; the bytes are written so that they end at dst_end,
 * at most rows * lanes + 2 * lanes of them; 64 more before them may be
 * overwritten. initial: the lanes' first states, 0x8000 or more. Returns the
 * stream's size, states included. */
size_t znn_narrow_encode_scalar(const znn_narrow_table *table, unsigned lanes, const uint8_t *codes, size_t rows,
                                const uint16_t *initial, uint8_t *dst_end);
size_t znn_narrow_encode_neon(const znn_narrow_table *table, unsigned lanes, const uint8_t *codes, size_t rows,
                              const uint16_t *initial, uint8_t *dst_end);
size_t znn_narrow_encode_avx2(const znn_narrow_table *table, unsigned lanes, const uint8_t *codes, size_t rows,
                              const uint16_t *initial, uint8_t *dst_end);
size_t znn_narrow_encode_avx512(const znn_narrow_table *table, unsigned lanes, const uint8_t *codes, size_t rows,
                                const uint16_t *initial, uint8_t *dst_end);

/* The list of `count` escapes: for each its index's place in the table's tail,
 * escape_bits of it, packed with no gaps, least significant bit first. */
size_t znn_narrow_escapes_size(const znn_narrow_table *table, size_t count); /* bytes */
void znn_narrow_escapes_write(uint8_t *dst, const znn_narrow_table *table, const uint8_t *indices, size_t count);
/* To indices; 64 bytes beyond them may be written. False if a place is not in
 * the tail, or a bit beyond the last is set. Vectors read up to 64 bytes beyond
 * the list, and leave those out of the answer. */
bool znn_narrow_escapes_read_scalar(uint8_t *indices, const znn_narrow_table *table, size_t count, const uint8_t *src);
bool znn_narrow_escapes_read_neon(uint8_t *indices, const znn_narrow_table *table, size_t count, const uint8_t *src);
bool znn_narrow_escapes_read_avx2(uint8_t *indices, const znn_narrow_table *table, size_t count, const uint8_t *src);
bool znn_narrow_escapes_read_avx512(uint8_t *indices, const znn_narrow_table *table, size_t count, const uint8_t *src);

#endif
