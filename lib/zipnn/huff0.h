/* Huffman blocks as huff0 writes them: RFC 8878, 4.2, with four streams. They
 * do not hold their decoded size. */
#ifndef ZNN_HUFF0_H
#define ZNN_HUFF0_H

#include "base/base.h"

#define ZNN_HUFF0_MAX 131072  /* the most bytes a block decodes to */
#define ZNN_HUFF0_BITS_MAX 11 /* of a code */
#define ZNN_HUFF0_SIZE_MIN 12 /* of content: below, four streams never save */

/* For 64 lanes of a block, about a quarter more than they need on average, and 84 rows of a symbol of each. */
#define ZNN_HUFF0_LANE_SIZE 2624
#define ZNN_HUFF0_LANES_MEMORY (64 * (ZNN_HUFF0_LANE_SIZE + 84))

typedef struct {
    uint8_t symbol, length;
} znn_huff0_code;

/* The tables of a block. */
typedef struct {
    znn_huff0_code codes[256]; /* in the order of their bits */
    uint8_t lengths[256];      /* of each symbol's code */
    unsigned count;
    /* By the next 11 bits: length of the first code, and its symbol in the high byte. */
    uint16_t one[(1 << ZNN_HUFF0_BITS_MAX) + 3]; /* and what a store goes beyond */
    /* By the next k bits, at index 2^k + bits: as many whole codes as they
     * hold, six at most. Their bits, their count, and the symbols from byte 2. */
    uint64_t many[2 << ZNN_HUFF0_BITS_MAX];
} znn_huff0_tables;

/* What decoding works with. One belongs to one thread. */
typedef struct {
    znn_huff0_tables tables[2];
    uint8_t memory[2 * ZNN_HUFF0_LANES_MEMORY + 64]; /* for lanes */
} znn_huff0_decoder;

typedef struct {
    uint8_t *dst;
    size_t dst_size;
    const uint8_t *src;
    size_t src_size;
    bool large; /* more is written at once than caches hold */
} znn_huff0_block;

/* Decode `count` blocks, 1 or 2, of exactly src_size bytes to exactly dst_size;
 * two at once take less time than one after the other. False if one is not such
 * a block; dst then holds anything, nothing outside it was touched. */
bool znn_huff0_decode(znn_huff0_decoder *decoder, const znn_huff0_block *blocks, unsigned count);

/* For any stream, and what a store goes beyond. */
#define ZNN_HUFF0_ROOM (ZNN_HUFF0_MAX / 4 * ZNN_HUFF0_BITS_MAX / 8 + 8)

/* What encoding works with. */
typedef struct {
    uint32_t count[256];
    uint64_t code[256]; /* the code in the highest bits, its length in the low byte */
    uint8_t description[136];
    size_t description_size;
    uint8_t room[4][ZNN_HUFF0_ROOM];
} znn_huff0_encoder;

/* Write src as a block of at most `most` bytes; its size: 1 if src is one byte
 * repeated, 0 if it cannot be such a block, or that is not worth trying. */
size_t znn_huff0_encode(znn_huff0_encoder *encoder, uint8_t *dst, size_t most, const uint8_t *src, size_t size);

/* ---- Inside ---- */

/* The codes' lengths as "weights": 0 for no code, else 1 + longest - length.
 * Reading returns the description's size, writing too; 0 on failure. */
size_t znn_huff0_read_weights(uint8_t weights[256], const uint8_t *src, size_t src_size);
size_t znn_huff0_write_weights(uint8_t *dst, size_t capacity, const uint8_t *weights, size_t count);

/* Lengths of at most 11 bits, in small blocks of `size` fewer, for 2 symbols or more, whose codes fill the space; 0 for
 * those that do not occur. */
void znn_huff0_lengths(uint8_t lengths[256], const uint32_t count[256], size_t size);

/* Streams being read, from their ends: of one block, or of two at once. `bits`
 * has the next one at the top, and a lowest set bit that tells how many were
 * taken since `at` was loaded. */
typedef struct {
    const uint8_t *at[8], *begin[8];
    uint64_t bits[8];
    uint8_t *out[8], *end[8];
} znn_huff0_readers;

/* A block and its first four streams, for lanes. */
typedef struct {
    znn_huff0_readers *streams;
    const uint8_t *src;
    size_t src_size;
    const uint16_t *one;
    const uint8_t *lengths;
    bool large;
} znn_huff0_lanes_block;

/* A stream being written, from its last symbol to its first: `bits` has the
 * newest at the top, of which `count` are not written yet. */
typedef struct {
    uint8_t *out, *end;
    const uint8_t *from, *at; /* symbols [from, at) are left */
    uint64_t bits, count;
} znn_huff0_writer;

/* The fast loops, once for each instruction set. They stop before a bound could
 * be passed, and leave the rest. `a` and `b` are the tables of the first and
 * the last four streams. */
typedef struct {
    /* Or NULL. Read 1 or 2 large blocks as far as can be proved. */
    void (*lanes)(uint8_t *memory, const znn_huff0_lanes_block *blocks, unsigned count);
    void (*one)(znn_huff0_readers *streams, const uint16_t *a);
    void (*one_twice)(znn_huff0_readers *streams, const uint16_t *a, const uint16_t *b);
    void (*many)(znn_huff0_readers *streams, const uint64_t *a); /* four streams */
    void (*encode)(znn_huff0_writer streams[4], const uint64_t code[256]);
    /* Count once what occurs and was not counted. */
    void (*mark)(uint32_t count[256], const uint8_t *src, size_t size);
} znn_huff0_loops;
void znn_huff0_lanes_avx512(uint8_t *memory, const znn_huff0_lanes_block *blocks, unsigned count);
extern const znn_huff0_loops znn_huff0_scalar, znn_huff0_avx2, znn_huff0_avx512;
const znn_huff0_loops *znn_huff0_loops_here(void); /* the fastest of this machine */

#endif
