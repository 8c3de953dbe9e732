/* Huffman blocks as huff0 writes them: RFC 8878, 4.2, with four streams. They
 * do not hold their decoded size. */
#ifndef ZNN_HUFF0_H
#define ZNN_HUFF0_H

#include "base/base.h"

#define ZNN_HUFF0_MAX 131072  /* the most bytes a block decodes to */
#define ZNN_HUFF0_BITS_MAX 11 /* of a code */
#define ZNN_HUFF0_SIZE_MIN 12 /* of content: below, four streams never save */

/* What decoding works with. One belongs to one thread. */
typedef struct {
    /* By the next 11 bits: length of the first code, and its symbol in the high byte. */
    uint16_t one[1 << ZNN_HUFF0_BITS_MAX];
    /* By the next k bits, at index 2^k + bits: as many whole codes as they
     * hold, six at most. Their bits, their count, and the symbols from byte 2. */
    uint64_t many[2 << ZNN_HUFF0_BITS_MAX];
} znn_huff0_decoder;

/* Decode a block of exactly src_size bytes to exactly dst_size. False if it is
 * not such a block; dst then holds anything, nothing outside it was touched. */
bool znn_huff0_decode(znn_huff0_decoder *decoder, uint8_t *dst, size_t dst_size, const uint8_t *src, size_t src_size);

/* What encoding works with. */
typedef struct {
    uint32_t count[8][256]; /* two for each quarter */
    uint64_t code[256];     /* the code in the low bits; its length in the top byte */
    uint8_t description[136];
    size_t description_size;
    size_t stream_size[4];
    uint8_t value; /* of a plane that holds nothing else */
} znn_huff0_encoder;

/* The exact size of src as a block: 1 if it is one byte repeated, 0 if it
 * cannot be a block (too small or large, or its code cannot be described). */
size_t znn_huff0_prepare(znn_huff0_encoder *encoder, const uint8_t *src, size_t size);

/* Write the block that was prepared, exactly as many bytes as that said. */
void znn_huff0_encode(const znn_huff0_encoder *encoder, uint8_t *dst, const uint8_t *src, size_t size);

/* True if a sample says that coding would save less than about 3 %. */
bool znn_huff0_hopeless(const uint8_t *src, size_t size);

/* ---- Inside ---- */

/* The codes' lengths as "weights": 0 for no code, else 1 + longest - length.
 * Reading returns the description's size, writing too; 0 on failure. */
size_t znn_huff0_read_weights(uint8_t weights[256], const uint8_t *src, size_t src_size);
size_t znn_huff0_write_weights(uint8_t *dst, size_t capacity, const uint8_t *weights, size_t count);

/* Lengths of at most 11 bits for 2 symbols or more; 0 for those that do not occur. */
void znn_huff0_lengths(uint8_t lengths[256], const uint32_t count[256]);

/* A stream being read, from its end: `bits` has the next one at the top, and a
 * lowest set bit that tells how many were taken since `at` was loaded. */
typedef struct {
    const uint8_t *at[4], *begin[4];
    uint64_t bits[4];
    uint8_t *out[4], *end[4];
} znn_huff0_streams;

/* The fast loops: stop before a bound could be passed, and leave the rest. */
typedef void (*znn_huff0_loop)(znn_huff0_streams *streams, const znn_huff0_decoder *decoder);
void znn_huff0_loop_one(znn_huff0_streams *streams, const znn_huff0_decoder *decoder);
void znn_huff0_loop_many(znn_huff0_streams *streams, const znn_huff0_decoder *decoder);
void znn_huff0_loop_one_avx2(znn_huff0_streams *streams, const znn_huff0_decoder *decoder);
void znn_huff0_loop_many_avx2(znn_huff0_streams *streams, const znn_huff0_decoder *decoder);

#endif
