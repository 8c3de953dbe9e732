/*
 * The context coder, for the highest levels: what a weight's exponent may be is
 * told by the weights before it, and its first mantissa bits by the exponent.
 *
 * A code is a byte: an index of 6 bits, which stands for an exponent, and below it
 * two bits of the mantissa. Indices and mantissa bits are two streams of interleaved
 * rANS (arXiv 1311.2540, 1402.3392), of 256 lanes each, with states of 24 bits and
 * probabilities in 256ths. To decode a symbol from a state x in [2^16, 2^24):
 *     slot = x mod 256;  s: the symbol whose slots hold it
 *     x = freq(s) * (x / 256) + slot - start(s);  if x < 2^16: x = 256 x + next byte
 *
 * Indices. A lane goes along its own run of groups, element by element, and
 * keeps their average, in which an element weighs 1/16. The average, in halves, is the
 * context: one of 64 tables, each of up to 15 neighbouring indices and an escape, for the
 * others; those are a list.
 *
 * Mantissa bits. The table is the index's. Lanes take turns, in lane order, as
 * in the narrow coder.
 */
#ifndef ZNN_CONTEXT_H
#define ZNN_CONTEXT_H

#include "base/base.h"

#define ZNN_CONTEXT_LANES 256
#define ZNN_CONTEXT_GROUPS_MIN ZNN_CONTEXT_LANES /* a group, of 64 codes, for each lane */
#define ZNN_CONTEXTS 64
#define ZNN_CONTEXT_SYMBOLS 12 /* of a table; the last is the escape */
#define ZNN_CONTEXT_ESCAPE (ZNN_CONTEXT_SYMBOLS - 1)
#define ZNN_CONTEXT_INDICES 64
#define ZNN_CONTEXT_PARTS 4           /* what the two mantissa bits can be */
#define ZNN_CONTEXT_STATES (3 * ZNN_CONTEXT_LANES) /* bytes: the lowest of every state, the middle ones, the highest */
#define ZNN_CONTEXT_TABLE_MAX (18 + ZNN_CONTEXTS * 17 + ZNN_CONTEXT_INDICES * 3)
#define ZNN_CONTEXT_ESCAPES_SHARE 4 /* no more of all codes are escaped than one in so many */
#define ZNN_CONTEXT_TILE 64 /* steps: a group of every lane */
/* How far a decoder may read beyond the escapes before it sees that there are none left. */
#define ZNN_CONTEXT_ESCAPES_BEYOND (ZNN_CONTEXT_TILE * ZNN_CONTEXT_LANES + 64)
#define ZNN_CONTEXT_RECORDS_ROOM (ZNN_CONTEXT_TILE * ZNN_CONTEXT_LANES) /* beyond one for each code */

/* Arrays by context or by index are a vector register. */
typedef struct {
    unsigned origin; /* the lowest context, in halves of an index */
    unsigned first;  /* the index that averages begin with */
    uint8_t low[ZNN_CONTEXTS];                            /* the index of a context's first symbol */
    uint8_t start[ZNN_CONTEXT_SYMBOLS][ZNN_CONTEXTS];     /* slots below a symbol; of the escape, at most 255 */
    uint8_t part_start[ZNN_CONTEXT_PARTS][ZNN_CONTEXT_INDICES];
    uint64_t contexts, indices; /* those that are written: others have the tables of znn_context_table_clear */
} znn_context_table;

/* ---- what encoder and decoder share ----- */

/* The average of a lane, 1024 for every index. */
static inline uint32_t znn_context_average(uint32_t average, unsigned index)
{
    return average - (average >> 4) + (index << 6);
}

static inline unsigned znn_context_of(uint32_t average, unsigned origin)
{
    const unsigned level = average >> 9;
    const unsigned context = level > origin ? level - origin : 0;
    return ZNN_MIN(context, ZNN_CONTEXTS - 1);
}

/* The groups of a lane are first_group(lane) to first_group(lane + 1). */
static inline size_t znn_context_first_group(size_t groups, unsigned lane)
{
    return groups * lane / ZNN_CONTEXT_LANES;
}

/* ---- the table ----- */

void znn_context_table_clear(znn_context_table *table);
/* counts[context][index], parts[index][mantissa bits] */
void znn_context_table_build(znn_context_table *table, uint32_t counts[ZNN_CONTEXTS][ZNN_CONTEXT_INDICES],
                             uint32_t parts[ZNN_CONTEXT_INDICES][ZNN_CONTEXT_PARTS]);
size_t znn_context_table_write(const znn_context_table *table, uint8_t *dst); /* at most TABLE_MAX bytes */
/* Bytes read; 0 if the table is invalid or does not fit into size. */
size_t znn_context_table_read(znn_context_table *table, const uint8_t *src, size_t size);

/* ---- encoding ----- */

/* What a lane's step is coded in: 64 * context + index, or NONE where the lane has
 * no group left. A row of 256 for every step. */
#define ZNN_CONTEXT_NONE 0xffff

/* Make table and records of 64 * groups codes, element i of a group at positions[i].
 * Returns the number of rows of records. */
size_t znn_context_model(znn_context_table *table, uint16_t *records, const uint8_t *codes, size_t groups,
                         const uint8_t positions[64]);

/* Each writes a stream that ends at dst_end, states first, and returns its size; at most
 * a byte for every code, and the states. initial: 16 bits for every lane, which the
 * decoder's last states hold. whole_rows: of the records, those of all lanes. The escapes' indices end at escaped_end, one byte each. */
size_t znn_context_encode_indices(const znn_context_table *table, const uint16_t *records, size_t rows,
                                  size_t whole_rows, const uint8_t initial[2 * ZNN_CONTEXT_LANES], uint8_t *dst_end,
                                  uint8_t *escaped_end, size_t *escapes);
size_t znn_context_encode_parts(const znn_context_table *table, const uint8_t *codes, size_t groups,
                                const uint8_t initial[2 * ZNN_CONTEXT_LANES], uint8_t *dst_end);

/* With AVX-512: the records of whole tiles. */
void znn_context_record_tiles_avx512(uint16_t averages[ZNN_CONTEXT_LANES], unsigned origin, uint16_t *records,
                                     const uint8_t *codes, size_t groups, size_t tiles, const uint8_t positions[64]);
/* Rows, backwards: what leaves the states goes before p; returns where it begins. Slots by record
 * and by code: start, frequency << 8, and ESCAPED. */
#define ZNN_CONTEXT_ESCAPED 0x10000u
uint8_t *znn_context_encode_rows_avx512(const uint32_t *slots, const uint16_t *records, size_t rows,
                                        uint32_t states[ZNN_CONTEXT_LANES], uint8_t *p, uint8_t **escaped);
uint8_t *znn_context_encode_part_rows_avx512(const uint32_t slots[256], const uint8_t *codes, size_t rows,
                                             uint32_t states[ZNN_CONTEXT_LANES], uint8_t *p);

/* ---- decoding ----- */

/* A stream at hand. */
typedef struct {
    _Alignas(64) uint8_t low[ZNN_CONTEXT_LANES];
    _Alignas(64) uint8_t middle[ZNN_CONTEXT_LANES];
    _Alignas(64) uint8_t high[ZNN_CONTEXT_LANES];
    const uint8_t *next, *end;
} znn_context_stream;

#define ZNN_CONTEXT_ROOM (sizeof(uint32_t) * ZNN_CONTEXTS * 256) /* of znn_context_decode_indices; aligned to 4 */

/* Indices to codes[0, 64 * groups), element i of a group to positions[i], from exactly size
 * bytes. escaped: the escapes' indices, all of which are used; beyond them ESCAPES_BEYOND bytes must be
 * readable. False if the stream is invalid. */
bool znn_context_decode_indices(const znn_context_table *table, uint8_t *codes, size_t groups,
                                const uint8_t positions[64], const uint8_t *src, size_t size, const uint8_t *escaped,
                                size_t escapes, uint8_t initial[2 * ZNN_CONTEXT_LANES], void *room);
/* Makes codes of indices, a few rows of lanes at a time, the last of which may be shorter. */
bool znn_context_parts_begin(znn_context_stream *stream, const uint8_t *src, size_t size);
bool znn_context_decode_parts(const znn_context_table *table, znn_context_stream *stream, uint8_t *codes, size_t count);
bool znn_context_parts_end(const znn_context_stream *stream, uint8_t initial[2 * ZNN_CONTEXT_LANES]);

/* The loops on x86-64 with AVX-512: whole tiles, and whole rows, as long as what they may read is there
 * (64 bytes for every vector of lanes). They return how many, and move on the rest; SIZE_MAX if
 * the stream or the escapes ended too early. */
size_t znn_context_tiles_avx512(const znn_context_table *table, znn_context_stream *stream,
                                uint16_t averages[ZNN_CONTEXT_LANES], uint8_t *codes, size_t groups, size_t tiles,
                                const uint8_t positions[64], const uint8_t **escaped, const uint8_t *escaped_end);
size_t znn_context_part_rows_avx512(const znn_context_table *table, znn_context_stream *stream, uint8_t *codes,
                                    size_t rows);

#endif
