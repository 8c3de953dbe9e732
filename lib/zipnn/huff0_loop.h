/*
 * The fast loops, compiled once for each instruction set. No
 * bound is checked inside a round: how many rounds every stream can bear is
 * worked out before them.
 *
 * Reading: a round takes at most 5 codes of 11 bits, or 5 entries of as many.
 * After a load, which leaves 57 bits or more, `at` goes back by at most
 * (7 + 55) / 8 = 7 bytes. It writes at most `stride` bytes and 8 more. The
 * lowest bit of `bits` is not read as data: 55 bits are taken of the 56 above.
 *
 * Writing: a round adds at most 5 codes of 11 bits to 7 bits that are left of
 * the last, writes 8 bytes, and moves on by at most 7. Codes are or-ed with
 * their lengths still in the low byte. That of the last code of a round is cut,
 * since up to 62 bits are wanted; those before have been pushed out by then, or
 * the codes after them were so short that fewer bits are wanted.
 */
#include "zipnn/huff0.h"

#define ROUND 5
#define ROUNDS 8 /* of a batch */
#define SLOTS (ROUND * ROUNDS)
#define TOP (64 - ZNN_HUFF0_BITS_MAX)

/* How many batches of ROUNDS rounds the streams can all bear: each takes at most
 * 7 bytes a round, and writes at most `most` bytes, and `beyond` more. */
static inline size_t read_batches_of(const znn_huff0_readers *s, unsigned streams, unsigned rounds, size_t most,
                                     size_t beyond)
{
    size_t least = SIZE_MAX;
    for (unsigned i = 0; i < streams; i++) {
        size_t in = (size_t)(s->at[i] - s->begin[i]) / (7 * rounds), out = (size_t)(s->end[i] - s->out[i]);
        out = out < beyond ? 0 : (out - beyond) / most;
        least = ZNN_MIN(least, ZNN_MIN(in, out));
    }
    return least;
}

/* TOP, by a register: a shift by one leaves its source as it is, and saves a copy. */
static inline unsigned shift_of_top(void)
{
    unsigned top = TOP;
    __asm__("" : "+r"(top));
    return top;
}

/* Every stream at once: what takes long in one is filled with the others. */
#define ALONE(DO) DO(0)
#define TWO(DO) DO(0) DO(1)
#define FOUR(DO) DO(0) DO(1) DO(2) DO(3)
#define EIGHT(DO) FOUR(DO) DO(4) DO(5) DO(6) DO(7)
#define TABLE(i) (i < 4 ? a : b)
#define LOAD(i) uint64_t bits##i = s->bits[i];
#define STORE(i) s->bits[i] = bits##i;
#define REFILL(i)                                                                                                      \
    {                                                                                                                  \
        unsigned taken = (unsigned)__builtin_ctzll(bits##i);                                                           \
        const uint8_t *at = s->at[i] - (taken >> 3);                                                                   \
        s->at[i] = at;                                                                                                 \
        bits##i = (znn_load64(at) | 1) << (taken & 7);                                                                 \
    }
#define ONE(i, k)                                                                                                      \
    {                                                                                                                  \
        unsigned entry = TABLE(i)[bits##i >> top];                                                                     \
        bits##i <<= entry & 63;                                                                                        \
        slot[(i)*SLOTS + (k)] = (uint8_t)(entry >> 8);                                                                 \
    }
#define ONE_0(i) ONE(i, 0)
#define ONE_1(i) ONE(i, 1)
#define ONE_2(i) ONE(i, 2)
#define ONE_3(i) ONE(i, 3)
#define ONE_4(i) ONE(i, 4)
#define MOVE_OUT(i)                                                                                                    \
    memcpy(s->out[i], slots + (i)*SLOTS, SLOTS);                                                                       \
    s->out[i] += SLOTS;
/* Symbols go by way of slots, all of which one register reaches. */
#define ONE_LOOP(EACH, streams)                                                                                        \
    uint8_t slots[8 * SLOTS];                                                                                          \
    for (size_t left; (left = read_batches_of(s, streams, ROUNDS, SLOTS, 0)) > 0;) {                                   \
        EACH(LOAD)                                                                                                     \
        do {                                                                                                           \
            for (uint8_t *slot = slots; slot < slots + SLOTS; slot += ROUND) {                                         \
                EACH(ONE_0)                                                                                            \
                EACH(ONE_1)                                                                                            \
                EACH(ONE_2)                                                                                            \
                EACH(ONE_3)                                                                                            \
                EACH(ONE_4)                                                                                            \
                EACH(REFILL)                                                                                           \
            }                                                                                                          \
            EACH(MOVE_OUT)                                                                                             \
        } while (--left);                                                                                              \
        EACH(STORE)                                                                                                    \
    }

#define MANY(i)                                                                                                        \
    {                                                                                                                  \
        uint64_t entry = TABLE(i)[bits##i >> top];                                                                     \
        bits##i <<= entry & 63;                                                                                        \
        uint8_t *out = s->out[i];                                                                                      \
        znn_store64(out, entry >> 16);                                                                                 \
        s->out[i] = out + (uint8_t)(entry >> 8);                                                                       \
    }
#define MANY_LOOP(EACH, streams)                                                                                       \
    for (size_t left; (left = read_batches_of(s, streams, 1, 6 * ROUND, 8)) > 0;) {                                    \
        EACH(LOAD)                                                                                                     \
        do {                                                                                                           \
            EACH(MANY)                                                                                                 \
            EACH(MANY)                                                                                                 \
            EACH(MANY)                                                                                                 \
            EACH(MANY)                                                                                                 \
            EACH(MANY)                                                                                                 \
            EACH(REFILL)                                                                                               \
        } while (--left);                                                                                              \
        EACH(STORE)                                                                                                    \
    }

static void one(znn_huff0_readers *s, const uint16_t *a)
{
    const unsigned top = shift_of_top();
    const uint16_t *b = a;
    ONE_LOOP(FOUR, 4)
}

static void one_twice(znn_huff0_readers *s, const uint16_t *a, const uint16_t *b)
{
    const unsigned top = shift_of_top();
    ONE_LOOP(EIGHT, 8)
}

/* One stream of several. */
static void many_alone(znn_huff0_readers *all, unsigned which, const uint64_t *a)
{
    const uint64_t *b = a;
    const unsigned top = shift_of_top();
    znn_huff0_readers alone, *s = &alone;
    alone.at[0] = all->at[which];
    alone.begin[0] = all->begin[which];
    alone.bits[0] = all->bits[which];
    alone.out[0] = all->out[which];
    alone.end[0] = all->end[which];
    MANY_LOOP(ALONE, 1)
    all->at[which] = alone.at[0];
    all->bits[which] = alone.bits[0];
    all->out[which] = alone.out[0];
}

/* Entries hold more symbols in some streams than in others: when one has ended, the others go on alone. */
static void many(znn_huff0_readers *s, const uint64_t *a)
{
    const uint64_t *b = a;
    const unsigned top = shift_of_top();
    MANY_LOOP(FOUR, 4)
    for (unsigned i = 0; i < 4; i++)
        many_alone(s, i, a);
}

/* A round writes 8 bytes, none of which may be the next stream's. */
static inline size_t write_rounds(const znn_huff0_writer *s, unsigned streams)
{
    size_t least = SIZE_MAX;
    for (unsigned i = 0; i < streams; i++) {
        size_t room = (size_t)(s[i].end - s[i].out), symbols = (size_t)(s[i].at - s[i].from) / ROUND;
        least = ZNN_MIN(least, ZNN_MIN(room < 8 ? 0 : (room - 8) / 7 + 1, symbols));
    }
    return least;
}

#define PUT(i, k, mask)                                                                                                \
    entry = code[at##i[-1 - k]];                                                                                       \
    bits##i = bits##i >> (entry & 63) | (entry & mask);                                                                \
    count##i += entry;
#define WRITE_ROUND(i)                                                                                                 \
    {                                                                                                                  \
        uint64_t entry;                                                                                                \
        PUT(i, 0, UINT64_MAX)                                                                                          \
        PUT(i, 1, UINT64_MAX)                                                                                          \
        PUT(i, 2, UINT64_MAX)                                                                                          \
        PUT(i, 3, UINT64_MAX)                                                                                          \
        PUT(i, 4, ~(uint64_t)0xFF)                                                                                     \
        at##i -= ROUND;                                                                                                \
        count##i &= 0xFF;                                                                                              \
        znn_store64(out##i, bits##i >> (-count##i & 63));                                                              \
        out##i += count##i >> 3;                                                                                       \
        count##i &= 7;                                                                                                 \
    }
#define WRITE_LOAD(i)                                                                                                  \
    uint8_t *out##i = s[i].out;                                                                                        \
    const uint8_t *at##i = s[i].at;                                                                                    \
    uint64_t bits##i = s[i].bits, count##i = s[i].count;
#define WRITE_STORE(i)                                                                                                 \
    s[i].out = out##i;                                                                                                 \
    s[i].at = at##i;                                                                                                   \
    s[i].bits = bits##i;                                                                                               \
    s[i].count = count##i;

/* Two streams at once: more would not fit into registers. */
static void encode_two(znn_huff0_writer *s, const uint64_t code[256])
{
    for (size_t left; (left = write_rounds(s, 2)) > 0;) {
        TWO(WRITE_LOAD)
        do {
            TWO(WRITE_ROUND)
        } while (--left);
        TWO(WRITE_STORE)
    }
}

static void encode(znn_huff0_writer s[4], const uint64_t code[256])
{
    encode_two(s, code);
    encode_two(s + 2, code);
}

static void mark(uint32_t count[256], const uint8_t *src, size_t size)
{
    uint8_t seen[256] = {0};
    for (size_t i = 0; i < size; i++)
        seen[src[i]] = 1;
    for (unsigned s = 0; s < 256; s++)
        count[s] = count[s] ? count[s] : seen[s];
}

