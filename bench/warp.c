/*
 * Would the format suit a GPU? Decodes the BF16 chunks of a .znn file (method
 * float, narrow coder, 256 lanes) as the warps of a GPU would, one machine
 * instruction for 32 threads at a time, counts what that takes, and compares the
 * result with the original. docs/GPU.md says what came of it.
 *
 *     warp FILE.znn ORIGINAL [CHUNKS]
 *
 * Three ways to share out 256 lanes:
 *   block    8 warps, a lane a thread; one block barrier a row
 *   ballots  1 warp; thread t has the lanes t, 32 + t, 64 + t, ... Ranks by ballot and popcount
 *   runs     1 warp; thread t has the lanes 8 t to 8 t + 7. Ranks by a prefix sum of shuffles
 *
 * Simulated are the rows, with escapes. What comes once a chunk (table, patches,
 * the bits that the last states carry) is done, but not counted.
 */
#include <stdio.h>
#include <stdlib.h>

#include "chunk/fields.h"
#include "entropy/narrow.h"
#include "frame/layout.h"

#define THREADS 32
#define LANES 256
#define WARPS (LANES / THREADS)
#define FLOAT_HEADER 16
#define METHOD_FLOAT 3
#define ALL 0xffffffffu

/* ---- A warp's machine: registers, instructions, memory ----------------------- */

typedef struct {
    uint32_t of[THREADS];
} reg;

/* By the pipe that takes them. */
typedef enum { ALU, FMA, POPC, UNIFORM, VOTE, SHUFFLE, BRANCH, BARRIER, SHARED, GLOBAL, OPS } op;
static const char *const op_names[OPS] = {"add, logic, shift, compare, permute",
                                          "multiply-add, byte dot product",
                                          "popcount, find bit",
                                          "uniform (once a warp)",
                                          "ballot",
                                          "shuffle",
                                          "branch",
                                          "block barrier",
                                          "shared load or store",
                                          "global load or store"};

typedef struct {
    uint64_t ops[OPS];
    uint64_t shared_cycles; /* a bank conflict repeats the access */
    uint64_t lookup_cycles; /* those of the slots' table */
    uint64_t lines;         /* global: 128-byte lines touched, by instruction */
    uint64_t sectors_read, sectors_written;
    uint64_t rows;
} tally;

static tally *now;

static void count(op what, unsigned n)
{
    now->ops[what] += n;
}

/* One instruction: every active thread i puts `expression` into its register. */
#define DO_IF(mask, what, target, expression)                                                                          \
    do {                                                                                                               \
        count(what, 1);                                                                                                \
        for (unsigned i = 0; i < THREADS; i++)                                                                         \
            if ((mask) >> i & 1)                                                                                       \
                (target).of[i] = (expression);                                                                         \
    } while (0)
#define DO(what, target, expression) DO_IF(ALL, what, target, expression)

/* A compare: the result stays in a predicate, here a bit for each thread. */
#define TEST(target, expression)                                                                                       \
    do {                                                                                                               \
        count(ALU, 1);                                                                                                 \
        (target) = 0;                                                                                                  \
        for (unsigned i = 0; i < THREADS; i++)                                                                         \
            (target) |= (uint32_t)((expression) != 0) << i;                                                            \
    } while (0)

static uint32_t ballot(uint32_t predicate)
{
    count(VOTE, 1);
    return predicate;
}

static uint32_t uniform_popcount(uint32_t mask)
{
    count(UNIFORM, 1);
    return (uint32_t)__builtin_popcount(mask);
}

/* Each thread's value from the thread `delta` below; the lowest keep their own. */
static reg shuffle_up(reg value, unsigned delta)
{
    reg r;
    count(SHUFFLE, 1);
    for (unsigned i = 0; i < THREADS; i++)
        r.of[i] = value.of[i >= delta ? i - delta : i];
    return r;
}

static uint32_t shuffle_last(reg value)
{
    count(SHUFFLE, 1);
    return value.of[THREADS - 1];
}

/* The byte dot product of 4 bytes and a sum. */
static uint32_t dot(uint32_t a, uint32_t b, uint32_t c)
{
    for (unsigned i = 0; i < 32; i += 8)
        c += (a >> i & 255) * (b >> i & 255);
    return c;
}

static uint32_t funnel_right(uint32_t low, uint32_t high, unsigned bits)
{
    return (uint32_t)(((uint64_t)high << 32 | low) >> bits);
}

static uint32_t select_bits(uint32_t mask, uint32_t a, uint32_t b)
{
    return (a & mask) | (b & ~mask);
}

static uint8_t shared[8192];
#define TABLE 0     /* by slot: u8 offset, u8 frequency, u16 symbol in its place, the high bit set for an escape */
#define TAIL 1024   /* by place: u16 symbol in its place */
#define COUNTS 1152 /* block: refills and escapes of 8 warps, a byte each; twice */
#define QUEUE 2048  /* runs: positions of escapes */
#define QUEUE_SIZE 512
#define RING 4096 /* the stream's next bytes */
#define BLOCK_RING 4096
#define WARP_RING 1024

/* Accesses of 8 and 16 bytes go by half and quarter warps. An access takes as many
 * cycles as there are different words in the bank that has most of them. */
static unsigned shared_access(uint32_t mask, const reg *address, unsigned width)
{
    const unsigned step = width > 4 ? 128 / width : THREADS;
    unsigned cycles = 0;
    for (unsigned first = 0; first < THREADS; first += step) {
        uint32_t words[32][32];
        unsigned used[32] = {0}, most = 0;
        for (unsigned i = first; i < first + step; i++)
            for (unsigned w = 0; mask >> i & 1 && w < (width + 3) / 4; w++) {
                const uint32_t word = address->of[i] / 4 + w, bank = word % 32;
                unsigned k = 0;
                while (k < used[bank] && words[bank][k] != word)
                    k++;
                if (k == used[bank])
                    words[bank][used[bank]++] = word;
                most = ZNN_MAX(most, used[bank]);
            }
        cycles += most;
    }
    count(SHARED, 1);
    now->shared_cycles += cycles;
    return cycles;
}

static void shared_load(uint32_t mask, reg *value, const reg *address, unsigned width)
{
    shared_access(mask, address, width);
    for (unsigned i = 0; i < THREADS; i++)
        if (mask >> i & 1) {
            value->of[i] = 0;
            memcpy(&value->of[i], shared + address->of[i], ZNN_MIN(width, 4));
        }
}

static void shared_store(uint32_t mask, const reg *value, const reg *address, unsigned width)
{
    shared_access(mask, address, width);
    for (unsigned i = 0; i < THREADS; i++)
        if (mask >> i & 1)
            memcpy(shared + address->of[i], &value->of[i], ZNN_MIN(width, 4));
}

typedef struct {
    uint8_t *bytes; /* as if placed at a multiple of 128 */
    size_t size;
} global;

static void global_access(uint32_t mask, const global *g, const reg *address, unsigned width, uint64_t *sectors)
{
    size_t seen[THREADS * 2];
    unsigned n = 0, lines = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        if (!(mask >> i & 1))
            continue;
        if (address->of[i] % width || address->of[i] + width > g->size) {
            fprintf(stderr, "warp: access of %u bytes at %u of %zu\n", width, address->of[i], g->size);
            exit(1);
        }
        const size_t sector = address->of[i] / 32;
        unsigned k = 0;
        bool same_line = false;
        for (; k < n && seen[k] != sector; k++)
            same_line |= seen[k] / 4 == sector / 4;
        if (k == n) {
            seen[n++] = sector;
            lines += !same_line;
        }
    }
    count(GLOBAL, 1);
    now->lines += lines;
    *sectors += n;
}

static void global_load(uint32_t mask, const global *g, reg *value, const reg *address, unsigned width)
{
    global_access(mask, g, address, width, &now->sectors_read);
    for (unsigned i = 0; i < THREADS; i++)
        if (mask >> i & 1) {
            value->of[i] = 0;
            memcpy(&value->of[i], g->bytes + address->of[i], width);
        }
}

/* values: width / 4 registers, or one for less than 4 bytes. */
static void global_store(uint32_t mask, const global *g, const reg *values, const reg *address, unsigned width)
{
    global_access(mask, g, address, width, &now->sectors_written);
    for (unsigned i = 0; i < THREADS; i++)
        for (unsigned at = 0; mask >> i & 1 && at < width; at += 4)
            memcpy(g->bytes + address->of[i] + at, &values[at / 4].of[i], ZNN_MIN(width - at, 4));
}

/* ---- The chunk, as its threads know it ----------------------------------------- */

typedef struct {
    global in, out;
    size_t elements, rows, groups;
    size_t safe_rows; /* their top bits do not wait for the last states */
    unsigned top_bits, symbol_shift;
    znn_fields fields;
    znn_narrow_table table;
    uint32_t top, patches, escapes, stream, end; /* offsets in `in` */
    size_t patch_size, escape_count;
    size_t held, top_stored;
    uint16_t states[LANES];
    /* moved on while decoding */
    uint32_t next, filled, escaped;
} chunk;

static reg thread_numbers(void)
{
    reg r;
    for (unsigned i = 0; i < THREADS; i++)
        r.of[i] = i;
    return r;
}

/* Copy the stream ahead to the ring, `per_thread` bytes a thread, if less than that is
 * left of it. The real loop would have loaded them into registers a fill earlier. */
static void fill_ring(chunk *c, unsigned ring, unsigned per_thread, unsigned warps)
{
    const unsigned size = THREADS * per_thread * warps;
    count(ALU, warps); /* the compare */
    count(BRANCH, warps);
    for (; c->filled <= c->next + size; c->filled += size)
        for (unsigned w = 0; w < warps; w++) {
            reg from = thread_numbers(), to;
            uint32_t inside;
            DO(FMA, from, c->filled + (w * THREADS + i) * per_thread);
            DO(ALU, to, RING + from.of[i] % ring);
            TEST(inside, from.of[i] + per_thread <= c->in.size); /* nothing beyond the end is ever read */
            global_access(inside, &c->in, &from, per_thread, &now->sectors_read);
            shared_access(inside, &to, per_thread);
            for (unsigned i = 0; i < THREADS; i++)
                if (inside >> i & 1)
                    memcpy(shared + to.of[i], c->in.bytes + from.of[i], per_thread);
            count(UNIFORM, 1);
        }
}

static size_t element_at(const chunk *c, size_t position)
{
    return znn_element_at(&c->fields, position);
}

/* ---- The lane step, which all three share ----------------------------------------- */

/* From a state to its slot's entry and the state before its refill: 6 instructions.
 * Offset + frequency * high byte is one byte dot product, with 1 and the high byte. */
static uint32_t step(const reg *x, reg *entry, reg *y)
{
    reg address, factors;
    uint32_t refill;
    DO(FMA, address, x->of[i] * 4);                   /* as a multiplication, for that pipe has less to do */
    DO(ALU, address, TABLE + (address.of[i] & 1020)); /* the load adds the constant */
    const uint64_t before = now->shared_cycles;
    shared_load(ALL, entry, &address, 4);
    now->lookup_cycles += now->shared_cycles - before;
    DO(ALU, factors, (x->of[i] & 0xff00) | 1); /* a permutation of bytes */
    DO(FMA, *y, dot(entry->of[i], factors.of[i], 0));
    TEST(refill, y->of[i] < 256);
    return refill;
}

/* ---- block and ballots: a value a thread at a time --------------------------------- */

static uint32_t below(unsigned thread)
{
    return (1u << thread) - 1;
}

/* x = y, with the refill byte that the thread's rank in the warp gives it. */
static void refill_by_rank(reg *x, const reg *y, uint32_t refill, uint32_t votes, uint32_t next, unsigned ring)
{
    reg rank, byte;
    *x = *y; /* the same register */
    DO(ALU, rank, votes & below(i));
    DO(POPC, rank, (uint32_t)__builtin_popcount(rank.of[i]));
    DO(ALU, rank, rank.of[i] + next);
    DO(ALU, rank, RING + rank.of[i] % ring);
    shared_load(refill, &byte, &rank, 1);
    DO_IF(refill, FMA, *x, y->of[i] * 256 + byte.of[i]);
}

/* Bits [bit, bit + count), count <= 8, of `in` at `from`. */
static reg load_bits(uint32_t mask, const chunk *c, uint32_t from, const reg *bit, unsigned bits)
{
    reg address, low, high, r;
    DO(ALU, address, from + bit->of[i] / 8);
    global_load(mask, &c->in, &low, &address, 1);
    for (unsigned i = 0; i < THREADS; i++) /* a constant in the instruction */
        address.of[i]++;
    global_load(mask, &c->in, &high, &address, 1);
    DO_IF(mask, FMA, low, high.of[i] * 256 + low.of[i]);
    DO_IF(mask, ALU, r, low.of[i] >> bit->of[i] % 8);
    DO_IF(mask, ALU, r, r.of[i] & ((1u << bits) - 1));
    return r;
}

/* The symbols of escapes first, first + 1, ...: those of the threads in mask have the
 * numbers in `rank`. */
static reg load_escapes(uint32_t mask, const chunk *c, const reg *rank)
{
    reg bit, place, symbol;
    DO_IF(mask, FMA, bit, rank->of[i] * c->table.escape_bits);
    for (unsigned i = 0; i < THREADS; i++)
        if (!(mask >> i & 1))
            bit.of[i] = 0;
    place = load_bits(mask, c, c->escapes, &bit, c->table.escape_bits);
    DO_IF(mask, ALU, place, TAIL + 2 * place.of[i]);
    shared_load(mask, &symbol, &place, 2);
    return symbol;
}

/* The values of 32 neighbouring positions: mantissa bits, escapes, store. */
static void join_and_store(chunk *c, size_t row, unsigned sub_row, reg entry, uint32_t escapes, uint32_t first_escape)
{
    const uint32_t first = (uint32_t)(row * LANES + sub_row * THREADS);
    reg value, top = {0}, address;
    uint32_t inside = ALL;
    DO(ALU, value, entry.of[i] >> 16);
    count(BRANCH, 1);
    if (escapes) {
        reg rank;
        DO(ALU, rank, escapes & below(i));
        DO(POPC, rank, (uint32_t)__builtin_popcount(rank.of[i]));
        DO(ALU, rank, rank.of[i] + first_escape);
        const reg symbol = load_escapes(escapes, c, &rank);
        for (unsigned i = 0; i < THREADS; i++)
            if (escapes >> i & 1)
                value.of[i] = symbol.of[i];
    }
    if (row < c->safe_rows) {
        reg bit = thread_numbers();
        for (unsigned i = 0; i < THREADS; i++) /* the same in every row but for a multiple of 32 bytes */
            bit.of[i] = c->top_bits * (first + i);
        top = load_bits(ALL, c, c->top, &bit, c->top_bits);
        DO(FMA, top, top.of[i] + (top.of[i] << (16 - c->top_bits))); /* the sign to its place */
    } else if (row >= c->elements / LANES)
        TEST(inside, element_at(c, first + i) < c->elements);
    const uint32_t symbol_mask = ((1u << c->fields.symbol_bits) - 1) << c->symbol_shift;
    DO(ALU, value, select_bits(symbol_mask, value.of[i], top.of[i]));
    DO(ALU, address, 2 * (uint32_t)element_at(c, first + i)); /* constant but for the row */
    global_store(inside, &c->out, &value, &address, 2);
}

/* The loop's own: its counter and its branch. */
static void loop_end(unsigned warps)
{
    count(ALU, warps);
    count(BRANCH, warps);
}

static void decode_block(chunk *c)
{
    reg x[WARPS], entry[WARPS], y[WARPS];
    uint32_t refill[WARPS], refills[WARPS], escapes[WARPS];
    for (unsigned l = 0; l < LANES; l++)
        x[l / THREADS].of[l % THREADS] = c->states[l];
    for (size_t row = 0; row < c->rows; row++) {
        /* Four fills fit, so no slow warp still reads what is written over. */
        fill_ring(c, BLOCK_RING, 4, WARPS);
        const uint32_t counts = COUNTS + 16 * (row & 1); /* by turns, so one barrier will do */
        for (unsigned w = 0; w < WARPS; w++) {
            uint32_t escape;
            reg sums[2], value, address;
            refill[w] = step(&x[w], &entry[w], &y[w]);
            TEST(escape, entry[w].of[i] >> 31);
            refills[w] = ballot(refill[w]);
            escapes[w] = ballot(escape);
            DO(POPC, sums[0], (uint32_t)__builtin_popcount(refills[w]));
            DO(POPC, sums[1], (uint32_t)__builtin_popcount(escapes[w]));
            DO(ALU, value, sums[i & 1].of[i]);
            for (unsigned i = 0; i < THREADS; i++)
                address.of[i] = counts + 8 * (i & 1) + w;
            shared_store(3, &value, &address, 1);
        }
        count(BARRIER, WARPS);
        uint32_t total = 0, escape_total = 0;
        for (unsigned w = 0; w < WARPS; w++) {
            /* 16 bytes: counts of refills, of escapes; before this warp's, and in all. */
            reg address, counted[4], before = {0}, escapes_before = {0}, all = {0}, escapes_all = {0};
            for (unsigned i = 0; i < THREADS; i++)
                address.of[i] = counts;
            shared_access(ALL, &address, 16);
            for (unsigned k = 0; k < 4; k++)
                for (unsigned i = 0; i < THREADS; i++)
                    memcpy(&counted[k].of[i], shared + counts + 4 * k, 4);
            const uint64_t ones = (UINT64_C(1) << 8 * w) - 1;
            for (unsigned k = 0; k < 2; k++) {
                const uint32_t lower = 0x01010101u & (uint32_t)(ones >> 32 * k);
                DO(FMA, before, dot(counted[k].of[i], lower, before.of[i]));
                DO(FMA, all, dot(counted[k].of[i], 0x01010101u, all.of[i]));
                DO(FMA, escapes_all, dot(counted[2 + k].of[i], 0x01010101u, escapes_all.of[i]));
                if (escapes[w])
                    DO(FMA, escapes_before, dot(counted[2 + k].of[i], lower, escapes_before.of[i]));
            }
            refill_by_rank(&x[w], &y[w], refill[w], refills[w], c->next + before.of[0], BLOCK_RING);
            join_and_store(c, row, w, entry[w], escapes[w], c->escaped + escapes_before.of[0]);
            count(ALU, 3); /* next and escaped, which every warp keeps; next + before */
            loop_end(1);
            total = all.of[0];
            escape_total = escapes_all.of[0];
        }
        c->next += total;
        c->escaped += escape_total;
        now->rows++;
    }
    for (unsigned l = 0; l < LANES; l++)
        c->states[l] = (uint16_t)x[l / THREADS].of[l % THREADS];
}

static void decode_ballots(chunk *c)
{
    reg x[WARPS], entry[WARPS], y[WARPS];
    uint32_t refill[WARPS], refills[WARPS], escapes[WARPS];
    for (unsigned l = 0; l < LANES; l++)
        x[l / THREADS].of[l % THREADS] = c->states[l];
    for (size_t row = 0; row < c->rows; row++) {
        fill_ring(c, WARP_RING, 16, 1);
        for (unsigned k = 0; k < WARPS; k++) { /* eight look-ups at once */
            uint32_t escape;
            refill[k] = step(&x[k], &entry[k], &y[k]);
            TEST(escape, entry[k].of[i] >> 31);
            refills[k] = ballot(refill[k]);
            escapes[k] = ballot(escape);
        }
        for (unsigned k = 0; k < WARPS; k++) {
            refill_by_rank(&x[k], &y[k], refill[k], refills[k], c->next, WARP_RING);
            join_and_store(c, row, k, entry[k], escapes[k], c->escaped);
            c->next += uniform_popcount(refills[k]);
            count(UNIFORM, 1);
            if (escapes[k]) {
                c->escaped += uniform_popcount(escapes[k]);
                count(UNIFORM, 1);
            }
        }
        loop_end(1);
        now->rows++;
    }
    for (unsigned l = 0; l < LANES; l++)
        c->states[l] = (uint16_t)x[l / THREADS].of[l % THREADS];
}

/* ---- runs: eight neighbouring positions a thread, which are eight elements in a row -- */

/* Take up to 32 escapes off the queue and mend the elements they belong to. */
static void take_escapes(chunk *c, uint32_t first, uint32_t escapes)
{
    reg rank, position, address, value;
    const uint32_t mask = escapes < THREADS ? below(escapes) : ALL;
    DO(ALU, rank, first + i);
    DO(ALU, address, QUEUE + 4 * (rank.of[i] % QUEUE_SIZE));
    shared_load(mask, &position, &address, 4);
    const reg symbol = load_escapes(mask, c, &rank);
    uint32_t inside = mask;
    for (unsigned i = 0; i < THREADS; i++) {
        const size_t element = mask >> i & 1 ? element_at(c, position.of[i]) : 0;
        address.of[i] = 2 * (uint32_t)element;
        if (element >= c->elements)
            inside &= ~(1u << i);
    }
    count(ALU, 7); /* two shifts and three logic operations for the element, the bounds of place and element */
    global_load(inside, &c->out, &value, &address, 2);
    const uint32_t symbol_mask = ((1u << c->fields.symbol_bits) - 1) << c->symbol_shift;
    DO(ALU, value, select_bits(symbol_mask, symbol.of[i], value.of[i]));
    global_store(inside, &c->out, &value, &address, 2);
    count(BARRIER, 2); /* of the warp alone */
    count(ALU, 2);
    count(BRANCH, 1);
}

/* The top bits of 8 positions a thread, from words where there are no odd ones. */
static void load_tops(chunk *c, size_t row, reg top[2])
{
    const unsigned words = (c->top_bits + 3 + 3) / 4;
    reg bytes = {0}, address, word[3] = {{{0}}};
    for (unsigned i = 0; i < THREADS; i++) /* the same in every row but for a multiple of 32 bytes */
        bytes.of[i] = c->top + c->top_bits * (uint32_t)(row * THREADS + i);
    count(ALU, 1);
    for (unsigned k = 0; k < words; k++) {
        for (unsigned i = 0; i < THREADS; i++) /* constants in the instructions */
            address.of[i] = bytes.of[i] / 4 * 4 + 4 * k;
        global_load(ALL, &c->in, &word[k], &address, 4);
    }
    for (unsigned k = 0; k + 1 < words; k++)
        DO(ALU, top[k], funnel_right(word[k].of[i], word[k + 1].of[i], bytes.of[i] % 4 * 8));
}

static void decode_runs(chunk *c)
{
    const unsigned t = c->top_bits;
    const uint32_t symbol_mask = (((1u << c->fields.symbol_bits) - 1) << c->symbol_shift) * 0x10001u;
    reg x[8], entry[8], y[8];
    uint32_t queued = 0; /* escapes put on the queue; c->escaped have been taken off */
    for (unsigned l = 0; l < LANES; l++)
        x[l % 8].of[l / 8] = c->states[l];
    for (size_t row = 0; row < c->rows; row++) {
        fill_ring(c, WARP_RING, 16, 1);
        uint32_t refill[8];
        reg refills = {0}, escapes = {0}, before[8];
        for (unsigned k = 0; k < 8; k++) {
            refill[k] = step(&x[k], &entry[k], &y[k]);
            before[k] = refills;
            DO_IF(refill[k], ALU, refills, refills.of[i] + 1);
            DO(ALU, escapes, escapes.of[i] << 1 | entry[k].of[i] >> 31); /* a funnel shift */
        }
        /* Both counts in one prefix sum. */
        reg counts, sums;
        DO(POPC, counts, (uint32_t)__builtin_popcount(escapes.of[i]));
        DO(FMA, counts, counts.of[i] * 65536 + refills.of[i]);
        sums = counts;
        for (unsigned delta = 1; delta < THREADS; delta *= 2) {
            const reg lower = shuffle_up(sums, delta);
            DO_IF(~below(delta), ALU, sums, sums.of[i] + lower.of[i]);
        }
        const uint32_t totals = shuffle_last(sums);
        DO(ALU, sums, sums.of[i] - counts.of[i]);
        /* The thread's bytes: a window of 8, from three words. */
        reg from, address, word[3], window[2];
        DO(ALU, from, sums.of[i] & 0xffff);
        DO(ALU, from, from.of[i] + c->next);
        for (unsigned k = 0; k < 3; k++) {
            DO(ALU, address, RING + (from.of[i] / 4 * 4 + 4 * k) % WARP_RING);
            shared_load(ALL, &word[k], &address, 4);
        }
        DO(ALU, address, from.of[i] % 4 * 8);
        for (unsigned k = 0; k < 2; k++)
            DO(ALU, window[k], funnel_right(word[k].of[i], word[k + 1].of[i], address.of[i]));
        for (unsigned k = 0; k < 8; k++) {
            reg byte;
            DO(ALU, byte, (before[k].of[i] < 4 ? window[0] : window[1]).of[i] >> before[k].of[i] % 4 * 8 & 255);
            x[k] = y[k]; /* the same register */
            DO_IF(refill[k], ALU, x[k], y[k].of[i] << 8 | byte.of[i]);
        }
        c->next += totals & 0xffff;
        count(ALU, 2);
        /* Escapes go on a queue, to be looked up 32 at a time. */
        reg number;
        DO(ALU, number, queued + (sums.of[i] >> 16));
        for (;;) {
            uint32_t some;
            TEST(some, escapes.of[i]);
            count(BRANCH, 1);
            if (!some)
                break;
            reg bit, position;
            DO_IF(some, POPC, bit, 31 - (uint32_t)__builtin_clz(escapes.of[i]));
            DO_IF(some, ALU, position, (uint32_t)row * LANES + 8 * i + 7 - bit.of[i]);
            DO_IF(some, ALU, address, QUEUE + 4 * (number.of[i] % QUEUE_SIZE));
            shared_store(some, &position, &address, 4);
            DO_IF(some, ALU, number, number.of[i] + 1);
            DO_IF(some, FMA, bit, 1u << bit.of[i]);
            DO_IF(some, ALU, escapes, escapes.of[i] ^ bit.of[i]);
        }
        queued += totals >> 16;
        count(ALU, 2);
        /* Two values a register. */
        reg top[2] = {{{0}}, {{0}}}, value[4];
        if (row < c->safe_rows)
            load_tops(c, row, top);
        for (unsigned k = 0; k < 4; k++) {
            reg pair, high, symbols;
            const unsigned bit = 2 * k * t;
            DO(ALU, pair, bit < 32 ? funnel_right(top[0].of[i], top[1].of[i], bit) : top[1].of[i] >> (bit - 32));
            DO(ALU, high, pair.of[i] << (16 - t));
            DO(ALU, pair, select_bits((1u << t) - 1, pair.of[i], high.of[i]));
            DO(ALU, high, pair.of[i] << (16 - t));
            DO(ALU, pair, select_bits(0x80008000u, high.of[i], pair.of[i]));
            DO(ALU, symbols, entry[2 * k].of[i] >> 16 | (entry[2 * k + 1].of[i] & 0xffff0000u));
            DO(ALU, value[k], select_bits(symbol_mask, symbols.of[i], pair.of[i]));
        }
        for (unsigned i = 0; i < THREADS; i++)
            address.of[i] = 2 * (uint32_t)element_at(c, row * LANES + 8 * i);
        count(ALU, 1);
        if (row < c->elements / LANES)
            global_store(ALL, &c->out, value, &address, 16);
        else /* the last row: what is beyond the end is dropped */
            for (unsigned k = 0; k < 8; k++) {
                reg one;
                uint32_t inside;
                TEST(inside, address.of[i] / 2 + k < c->elements);
                DO(ALU, one, value[k / 2].of[i] >> k % 2 * 16);
                reg at = address;
                for (unsigned i = 0; i < THREADS; i++)
                    at.of[i] += 2 * k;
                global_store(inside, &c->out, &one, &at, 2);
            }
        count(ALU, 1);
        count(BRANCH, 1);
        while (queued - c->escaped >= THREADS) {
            take_escapes(c, c->escaped, THREADS);
            c->escaped += THREADS;
        }
        loop_end(1);
        now->rows++;
    }
    if (queued > c->escaped)
        take_escapes(c, c->escaped, queued - c->escaped);
    c->escaped = queued;
    for (unsigned l = 0; l < LANES; l++)
        c->states[l] = (uint16_t)x[l % 8].of[l / 8];
}

/* ---- What comes once a chunk ------------------------------------------------------ */

/* False if it is not a chunk of BF16 as the default level makes it. */
static bool chunk_begin(chunk *c, const global *file, size_t at, const znn_chunk *block)
{
    const uint8_t *p = file->bytes + at;
    if (block->dtype != ZNN_BF16 || block->method != METHOD_FLOAT || block->stored_size < FLOAT_HEADER ||
        block->content_size % 2 || p[0] != 0 || p[1] != 8 || znn_load16(p + 6) != 0 ||
        !znn_fields_init(&c->fields, 2, p[3], p[2]) || c->fields.drop || c->fields.byte_planes)
        return false;
    const size_t slots = (size_t)block->content_size / 2 + ZNN_GROUP;
    if (znn_load32(p + 8) > block->stored_size || znn_load32(p + 12) > slots)
        return false;
    c->in = *file;
    c->elements = block->content_size / 2;
    c->groups = (c->elements + ZNN_GROUP - 1) / ZNN_GROUP;
    c->rows = (c->groups * ZNN_GROUP + LANES - 1) / LANES;
    c->top_bits = c->fields.top_bits;
    c->symbol_shift = c->top_bits - 1;
    c->patch_size = znn_load32(p + 8);
    c->escape_count = znn_load32(p + 12);
    const size_t table =
        znn_narrow_table_read(&c->table, c->fields.symbol_bits, p + FLOAT_HEADER, block->stored_size - FLOAT_HEADER);
    const size_t top_size = c->groups * 8 * c->top_bits;
    c->held = ZNN_MIN(15 * LANES / 8, top_size);
    c->top_stored = top_size - c->held;
    c->safe_rows = c->top_stored / (THREADS * c->top_bits);
    c->top = (uint32_t)(at + FLOAT_HEADER + table);
    c->patches = (uint32_t)(c->top + c->top_stored);
    c->escapes = (uint32_t)(c->patches + c->patch_size);
    c->stream = (uint32_t)(c->escapes + znn_narrow_escapes_size(&c->table, c->escape_count));
    c->end = (uint32_t)(at + block->stored_size);
    c->next = c->stream + 2 * LANES;
    return table && c->next <= c->end;
}

static void chunk_rewind(chunk *c)
{
    for (unsigned l = 0; l < LANES; l++)
        c->states[l] = (uint16_t)(c->in.bytes[c->stream + l] | c->in.bytes[c->stream + LANES + l] << 8);
    c->next = c->stream + 2 * LANES;
    c->filled = c->next / 1024 * 1024;
    c->escaped = 0;
    memset(shared, 0, sizeof shared);
    for (unsigned slot = 0; slot < 256; slot++) {
        const uint8_t code = c->table.code_of_slot[slot], index = code % ZNN_NARROW_INDICES;
        const uint32_t symbol = (uint32_t)c->table.symbol[index] << c->symbol_shift;
        const uint32_t entry = c->table.offset_of_slot[slot] | (uint32_t)c->table.freq[index] << 8 | symbol << 16 |
                               (code & ZNN_NARROW_ESCAPE ? 1u << 31 : 0);
        memcpy(shared + TABLE + 4 * slot, &entry, 4);
    }
    for (unsigned i = 0; i < c->table.tail_count; i++) {
        const uint16_t symbol = (uint16_t)(c->table.symbol[c->table.tail[i]] << c->symbol_shift);
        memcpy(shared + TAIL + 2 * i, &symbol, 2);
    }
}

/* The top bits that the last states carry, and the patches. False if the stream did not end where it should. */
static bool chunk_end(chunk *c)
{
    uint8_t bits[15 * LANES / 8 + 4] = {0};
    for (unsigned l = 0; l < LANES; l++)
        for (unsigned b = 0; b < 15; b++)
            bits[(15 * l + b) / 8] |= (uint8_t)((c->states[l] >> b & 1) << (15 * l + b) % 8);
    const unsigned t = c->top_bits;
    for (size_t position = c->safe_rows * LANES; position < c->groups * ZNN_GROUP; position++) {
        uint32_t value = 0;
        for (unsigned b = 0; b < t; b++) {
            const size_t bit = position * t + b, byte = bit / 8;
            const uint8_t from = byte < c->top_stored ? c->in.bytes[c->top + byte] : bits[byte - c->top_stored];
            value |= (uint32_t)(from >> bit % 8 & 1) << (b == t - 1 ? 15 : b);
        }
        const size_t element = element_at(c, position);
        if (element < c->elements)
            znn_store16(c->out.bytes + 2 * element, (uint16_t)(znn_load16(c->out.bytes + 2 * element) | value));
    }
    size_t position = 0;
    for (size_t at = 0; at + 4 <= c->patch_size; at += 4, position++) {
        position += znn_load16(c->in.bytes + c->patches + at);
        const unsigned symbol = znn_load16(c->in.bytes + c->patches + at + 2);
        if (symbol != 65535 && element_at(c, position) < c->elements)
            znn_fields_patch(&c->fields, c->out.bytes, element_at(c, position), symbol);
    }
    return c->next == c->end && c->escaped == c->escape_count;
}

/* ---- The account -------------------------------------------------------------------- */

static const struct {
    const char *name;
    double units, ghz, gb_s; /* as published: multiprocessors, boost clock, memory */
} gpus[] = {{"A100 SXM 40 GB", 108, 1.41, 1555}, {"H100 SXM 80 GB", 132, 1.83, 3350}};

static const struct {
    const char *name;
    void (*decode)(chunk *);
} ways[] = {{"block", decode_block}, {"ballots", decode_ballots}, {"runs", decode_runs}};
#define WAYS (sizeof ways / sizeof *ways)

static void print_row(const char *name, const tally *t, size_t offset)
{
    printf("%-38s", name);
    for (unsigned w = 0; w < WAYS; w++)
        printf(" %9.2f", (double)*(const uint64_t *)((const char *)&t[w] + offset) / (double)t[w].rows / WARPS);
    printf("\n");
}

static void print_account(const tally *t, double stored)
{
    uint64_t instructions[WAYS] = {0};
    printf("\nper 32 values:                        ");
    for (unsigned w = 0; w < WAYS; w++)
        printf(" %9s", ways[w].name);
    printf("\n");
    for (unsigned o = 0; o < OPS; o++) {
        print_row(op_names[o], t, offsetof(tally, ops) + o * sizeof(uint64_t));
        for (unsigned w = 0; w < WAYS; w++)
            instructions[w] += t[w].ops[o];
    }
    printf("%-38s", "instructions");
    for (unsigned w = 0; w < WAYS; w++)
        printf(" %9.2f", (double)instructions[w] / (double)t[w].rows / WARPS);
    printf("\n");
    print_row("shared memory, cycles", t, offsetof(tally, shared_cycles));
    print_row("  of them looking up slots", t, offsetof(tally, lookup_cycles));
    print_row("global lines of 128 bytes", t, offsetof(tally, lines));
    print_row("sectors of 32 bytes read", t, offsetof(tally, sectors_read));
    print_row("sectors of 32 bytes written", t, offsetof(tally, sectors_written));
    printf("(the file has %.2f sectors to be read, the original %.2f to be written)\n", 2 * stored, 2.0);

    printf("\nGB/s of the original that each would allow (estimates):\n%-38s", "");
    for (unsigned w = 0; w < WAYS; w++)
        printf(" %9s", ways[w].name);
    printf("\n");
    for (unsigned g = 0; g < sizeof gpus / sizeof *gpus; g++) {
        const char *const limits[] = {"4 instructions a cycle", "2 simple integer ones a cycle",
                                      "2 multiply-adds a cycle", "16 threads' popcounts a cycle",
                                      "loads and stores, 1 a cycle"};
        for (unsigned limit = 0; limit < 5; limit++) {
            printf("%s: %-*s", gpus[g].name, 36 - (int)strlen(gpus[g].name), limits[limit]);
            for (unsigned w = 0; w < WAYS; w++) {
                const double cycles[] = {(double)instructions[w] / 4, (double)t[w].ops[ALU] / 2,
                                         (double)t[w].ops[FMA] / 2, (double)t[w].ops[POPC] * 2,
                                         (double)(t[w].shared_cycles + t[w].lines + t[w].ops[SHUFFLE])};
                printf(" %9.0f", gpus[g].units * gpus[g].ghz * (double)t[w].rows * 2 * LANES / cycles[limit]);
            }
            printf("\n");
        }
        printf("%s: memory, read and written, %.0f of %.0f GB/s: %.0f\n", gpus[g].name, gpus[g].gb_s, gpus[g].gb_s,
               gpus[g].gb_s / (1 + stored));
    }
}

static global read_file(const char *name)
{
    global g = {0};
    FILE *f = fopen(name, "rb");
    long size = -1;
    if (f && !fseek(f, 0, SEEK_END))
        size = ftell(f);
    if (size < 0 || fseek(f, 0, SEEK_SET) || !(g.bytes = malloc((size_t)size + 1)) ||
        fread(g.bytes, 1, (size_t)size, f) != (size_t)size) {
        fprintf(stderr, "warp: cannot read %s\n", name);
        exit(1);
    }
    fclose(f);
    g.size = (size_t)size;
    return g;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: warp FILE.znn ORIGINAL [CHUNKS]\n");
        return 2;
    }
    const global file = read_file(argv[1]), original = read_file(argv[2]);
    const unsigned long chunks_max = argc > 3 ? strtoul(argv[3], NULL, 10) : 8;
    znn_header header;
    if (file.size < ZNN_HEADER_SIZE || file.size > UINT32_MAX || znn_header_read(&header, file.bytes) != ZNN_OK) {
        fprintf(stderr, "warp: %s is no .znn file, or too large\n", argv[1]);
        return 1;
    }
    size_t at = ZNN_HEADER_SIZE + header.extensions, from = 0, stored = 0, content = 0;
    unsigned decoded = 0, others = 0;
    tally tallies[WAYS] = {0};
    uint8_t *out = malloc((size_t)1 << header.chunk_log);
    if (!out)
        return 1;
    while (decoded < chunks_max && file.size > at && file.size - at > ZNN_BLOCK_HEADER_SIZE &&
           file.bytes[at] == ZNN_BLOCK_CHUNK) {
        znn_chunk block;
        bool starts;
        if (znn_block_read(&block, &starts, file.bytes + at, &header) != ZNN_OK ||
            file.size - at - ZNN_BLOCK_HEADER_SIZE < block.stored_size || original.size - from < block.content_size) {
            fprintf(stderr, "warp: the files do not fit\n");
            return 1;
        }
        at += ZNN_BLOCK_HEADER_SIZE;
        chunk c;
        if (chunk_begin(&c, &file, at, &block)) {
            c.out = (global){out, block.content_size};
            for (unsigned w = 0; w < WAYS; w++) {
                now = &tallies[w];
                memset(out, 0xa5, block.content_size);
                chunk_rewind(&c);
                ways[w].decode(&c);
                if (!chunk_end(&c) || memcmp(out, original.bytes + from, block.content_size) != 0) {
                    fprintf(stderr, "warp: %s: the chunk at %zu does not come back\n", ways[w].name, from);
                    return 1;
                }
            }
            decoded++;
            stored += ZNN_BLOCK_HEADER_SIZE + block.stored_size;
            content += block.content_size;
        } else
            others++;
        at += block.stored_size;
        from += block.content_size;
    }
    if (!decoded) {
        fprintf(stderr, "warp: no BF16 chunks of the default level\n");
        return 1;
    }
    printf("%u chunks decoded in %zu ways, all equal to the original; %u of other kinds left out\n", decoded, WAYS,
           others);
    print_account(tallies, (double)stored / (double)content);
    free(out);
    free(file.bytes);
    free(original.bytes);
    return 0;
}
