/*
 * The fast loops, compiled once for each instruction set (LOOP names them).
 *
 * Why no bound is checked inside: a round takes at most 5 codes of 11 bits, so
 * after a load, which leaves 57 bits or more, `at` goes back by at most
 * (7 + 55) / 8 = 7 bytes; and it writes at most `stride` bytes and 8 more. The
 * number of rounds that all four streams can bear is worked out before them.
 * `many` entries hold 11 bits at most too. The lowest bit of `bits` is not
 * read as data: 5 times 11 bits are taken of the 56 above it.
 */
#include "zipnn/huff0.h"

#define ROUND 5

static inline size_t rounds(const znn_huff0_streams *s, size_t stride)
{
    size_t least = SIZE_MAX;
    for (unsigned i = 0; i < 4; i++) {
        size_t in = (size_t)(s->at[i] - s->begin[i]) / 7, out = (size_t)(s->end[i] - s->out[i]);
        out = out < 8 ? 0 : (out - 8) / stride;
        least = ZNN_MIN(least, ZNN_MIN(in, out));
    }
    return least;
}

/* Every stream at once: what takes long in one is filled with the others. */
#define EACH(DO) DO(0) DO(1) DO(2) DO(3)
#define LOAD(i)                                                                                                        \
    uint64_t bits##i = s->bits[i];                                                                                     \
    const uint8_t *at##i = s->at[i];                                                                                   \
    uint8_t *out##i = s->out[i];
#define STORE(i)                                                                                                       \
    s->bits[i] = bits##i;                                                                                              \
    s->at[i] = at##i;                                                                                                  \
    s->out[i] = out##i;
#define REFILL(i)                                                                                                      \
    {                                                                                                                  \
        unsigned taken = (unsigned)__builtin_ctzll(bits##i);                                                           \
        at##i -= taken >> 3;                                                                                           \
        bits##i = (znn_load64(at##i) | 1) << (taken & 7);                                                              \
    }

#define ONE(i, k)                                                                                                      \
    {                                                                                                                  \
        unsigned entry = decoder->one[bits##i >> (64 - ZNN_HUFF0_BITS_MAX)];                                           \
        bits##i <<= entry & 63;                                                                                        \
        out##i[k] = (uint8_t)(entry >> 8);                                                                             \
    }
#define ONE_ROUND(k) ONE(0, k) ONE(1, k) ONE(2, k) ONE(3, k)
#define ONE_REFILL(i)                                                                                                  \
    out##i += ROUND;                                                                                                   \
    REFILL(i)

void LOOP(znn_huff0_loop_one)(znn_huff0_streams *s, const znn_huff0_decoder *decoder)
{
    for (size_t left; (left = rounds(s, ROUND)) > 0;) {
        EACH(LOAD)
        do {
            ONE_ROUND(0)
            ONE_ROUND(1)
            ONE_ROUND(2)
            ONE_ROUND(3)
            ONE_ROUND(4)
            EACH(ONE_REFILL)
        } while (--left);
        EACH(STORE)
    }
}

#define MANY(i)                                                                                                        \
    {                                                                                                                  \
        uint64_t entry = many[bits##i >> (64 - ZNN_HUFF0_BITS_MAX)];                                                   \
        bits##i <<= entry & 63;                                                                                        \
        znn_store64(out##i, entry >> 16);                                                                              \
        out##i += (uint8_t)(entry >> 8);                                                                               \
    }

void LOOP(znn_huff0_loop_many)(znn_huff0_streams *s, const znn_huff0_decoder *decoder)
{
    const uint64_t *many = decoder->many + (1 << ZNN_HUFF0_BITS_MAX);
    for (size_t left; (left = rounds(s, 6 * ROUND)) > 0;) {
        EACH(LOAD)
        do {
            EACH(MANY)
            EACH(MANY)
            EACH(MANY)
            EACH(MANY)
            EACH(MANY)
            EACH(REFILL)
        } while (--left);
        EACH(STORE)
    }
}
