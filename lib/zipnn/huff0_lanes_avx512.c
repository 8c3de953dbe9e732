/*
 * A block's four streams, each taken up at 16 places at once: a Huffman code
 * read from a wrong bit soon falls into step. Each of the 64 lanes warms up
 * before its place, and from the bit it then is at, its start, its symbols
 * count. A lane that hits the start of the next at the end of a symbol has
 * proved it, and their symbols follow one another. What is not proved is left,
 * so the symbols are those that any reader finds, whatever the block holds.
 *
 * Bounds: a lane's position, in bits from the begin of src, never rises, and
 * begins within its stream. Its bits are loaded from the 16 bytes that end with
 * the byte its next bit is in, at 128 bits or more: within src. They are used in
 * two halves, each of as many steps as 64 bits have codes for in every lane. A
 * step writes a row; of ROWS of them at most, 64 go to LANE_SIZE bytes of each
 * lane, which are left as soon as they might not have room for as many again.
 */
#include "base/cpu.h"
#include "zipnn/huff0.h"

#include <immintrin.h>

#define BITS ZNN_HUFF0_BITS_MAX
#define BLOCKS 2 /* at once */
#define GROUPS 4 /* of 16 lanes, one for each stream */
#define PER_GROUP 16
#define LANES (GROUPS * PER_GROUP)
#define ROW LANES
#define ROWS_STORED 64
#define ROWS (ROWS_STORED + STEPS_MAX)
#define LANE_SIZE ZNN_HUFF0_LANE_SIZE
#define WORDS 8      /* of 16 bits, of which a lane has its next symbols */
#define HALF 64      /* bits at most of the first half of the steps */
#define LOADED 121   /* bits at least of both */
#define STEPS_MIN 5  /* codes that are always in a half */
#define STEPS_MAX 20 /* at once; ROWS is 84 */
#define WARM_UP 24   /* symbols, after which most lanes are in step */
#define SKIP_MAX 200 /* symbols at most that the warming up failed to skip */
#define SHORT 8      /* bits of a code that the first look decides */
#define LONG_MAX 32  /* of 256: the share of longer codes that the second look can decide */

/* Lengths and symbols of codes, by their first 8 bits from `first_short` on; below, by all 11. */
typedef struct {
    __m512i length[4], symbol[4], long_length[4], long_symbol[4], first_short;
    bool few_long; /* all in the first halves of their tables */
} tables;

/* Bits of each lane by words, the next first: of 32 lanes in a, of the others in b. All that is loaded, and 64. */
typedef struct {
    __m512i a[WORDS], b[WORDS];
} loaded;
typedef struct {
    __m512i a[4], b[4];
} windows;

/* A block being read. */
typedef struct {
    const znn_huff0_lanes_block *block;
    uint8_t *rows, *symbols; /* the latest, by steps; all of each lane, LANE_SIZE apart */
    tables t;
    __m512i position[GROUPS];
    __m512i taken; /* bits of the last steps */
    __m512i stop[GROUPS];                   /* the start of the next lane */
    __m512i last[GROUPS], last_row[GROUPS]; /* where the last steps began that began before that */
    int start[GROUPS][PER_GROUP];
    size_t stored; /* symbols of each lane */
} lanes;

static bool load_tables(tables *t, const uint16_t *one)
{
    uint8_t length[256], symbol[256], long_length[256], long_symbol[256];
    unsigned first_short = 0;
    for (unsigned i = 0; i < 256; i++) {
        length[i] = one[i << (BITS - SHORT)] & 15;
        symbol[i] = (uint8_t)(one[i << (BITS - SHORT)] >> 8);
        long_length[i] = one[i] & 15;
        long_symbol[i] = (uint8_t)(one[i] >> 8);
        first_short += length[i] > SHORT;
    }
    for (unsigned i = 0; i < 4; i++) {
        t->length[i] = _mm512_loadu_si512(length + 64 * i);
        t->symbol[i] = _mm512_loadu_si512(symbol + 64 * i);
        t->long_length[i] = _mm512_loadu_si512(long_length + 64 * i);
        t->long_symbol[i] = _mm512_loadu_si512(long_symbol + 64 * i);
    }
    t->first_short = _mm512_set1_epi8((char)first_short);
    t->few_long = first_short <= LONG_MAX / 2;
    return first_short <= LONG_MAX;
}

/* ---- From rows to lanes ---- */

/* Of row r, and 16, 32, 48 rows on, the symbols of 16 lanes. */
static inline __m512i load_rows(const uint8_t *row)
{
    __m512i v = _mm512_castsi128_si512(_mm_load_si128((const void *)row));
    v = _mm512_mask_broadcast_i64x2(v, 0x0C, _mm_load_si128((const void *)(row + 16 * ROW)));
    v = _mm512_mask_broadcast_i64x2(v, 0x30, _mm_load_si128((const void *)(row + 32 * ROW)));
    return _mm512_mask_broadcast_i64x2(v, 0xC0, _mm_load_si128((const void *)(row + 48 * ROW)));
}

/* 8 rows: 8 bytes of each lane together. */
static inline void join_rows(__m512i out[8], const uint8_t *rows)
{
    __m512i a[8], b[8];
    for (unsigned i = 0; i < 4; i++) {
        __m512i x = load_rows(rows + 2 * i * ROW), y = load_rows(rows + (2 * i + 1) * ROW);
        a[i] = _mm512_unpacklo_epi8(x, y);
        a[4 + i] = _mm512_unpackhi_epi8(x, y);
    }
    for (unsigned i = 0; i < 8; i += 4)
        for (unsigned k = 0; k < 2; k++) {
            b[i + k] = _mm512_unpacklo_epi16(a[i + 2 * k], a[i + 2 * k + 1]);
            b[i + 2 + k] = _mm512_unpackhi_epi16(a[i + 2 * k], a[i + 2 * k + 1]);
        }
    for (unsigned i = 0; i < 8; i += 2) {
        out[i] = _mm512_unpacklo_epi32(b[i], b[i + 1]);
        out[i + 1] = _mm512_unpackhi_epi32(b[i], b[i + 1]);
    }
}

/* The oldest 64 rows, as symbols from number `done` on of each lane. */
static inline void store_rows(const lanes *l, unsigned done)
{
    for (unsigned x = 0; x < 4; x++) { /* 8 lanes of a in turns with 8 of b */
        __m512i upper[8], lower[8];
        join_rows(upper, l->rows + 16 * x);
        join_rows(lower, l->rows + 16 * x + 8 * ROW);
        for (unsigned i = 0; i < 8; i++) {
            uint8_t *of_a = l->symbols + (8 * x + i) * LANE_SIZE + done, *of_b = of_a + LANES / 2 * LANE_SIZE;
            _mm512_store_si512(of_a, _mm512_unpacklo_epi64(upper[i], lower[i]));
            _mm512_store_si512(of_b, _mm512_unpackhi_epi64(upper[i], lower[i]));
        }
    }
}

/* ---- Reading ---- */

/* `upper`: where the table's second half is meant. */
static inline __m512i look_up(const __m512i table[4], __m512i at, __mmask64 upper)
{
    return _mm512_mask_blend_epi8(upper, _mm512_permutex2var_epi8(table[0], at, table[1]),
                                  _mm512_permutex2var_epi8(table[2], at, table[3]));
}

static inline __m128i load_16(const uint8_t *src)
{
    return _mm_loadu_si128((const void *)src);
}

/* The 16 bytes of lanes 0, 8, 16 and 24 from `at` on. Faster than to gather them. */
static inline __m512i load_four(const uint8_t *src, const uint32_t *at)
{
    __m512i v = _mm512_castsi128_si512(load_16(src + at[0]));
    v = _mm512_mask_broadcast_i64x2(v, 0x0C, load_16(src + at[8]));
    v = _mm512_mask_broadcast_i64x2(v, 0x30, load_16(src + at[16]));
    return _mm512_mask_broadcast_i64x2(v, 0xC0, load_16(src + at[24]));
}

/* The words of 32 lanes, the next first. */
static inline void load_words(__m512i words[WORDS], const uint8_t *src, const uint32_t at[32], __m512i shift)
{
    __m512i a[8], b[8];
    for (unsigned i = 0; i < 8; i++)
        a[i] = load_four(src, at + i);
    for (unsigned i = 0; i < 4; i++) {
        b[i] = _mm512_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
        b[4 + i] = _mm512_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
    }
    for (unsigned i = 0; i < 8; i += 4)
        for (unsigned k = 0; k < 2; k++) {
            a[i + k] = _mm512_unpacklo_epi32(b[i + 2 * k], b[i + 2 * k + 1]);
            a[i + 2 + k] = _mm512_unpackhi_epi32(b[i + 2 * k], b[i + 2 * k + 1]);
        }
    for (unsigned i = 0; i < 8; i += 2) {
        words[7 - i] = _mm512_unpacklo_epi64(a[i], a[i + 1]);
        words[6 - i] = _mm512_unpackhi_epi64(a[i], a[i + 1]);
    }
    for (unsigned i = 0; i < 7; i++)
        words[i] = _mm512_shldv_epi16(words[i], words[i + 1], shift);
    words[7] = _mm512_sllv_epi16(words[7], shift);
}

/* `positions` are 128 or more. */
static inline __attribute__((always_inline)) void load_windows(loaded *w, const uint8_t *src,
                                                               const __m512i positions[GROUPS])
{
    uint32_t at[LANES];
    __m256i shift[GROUPS];
    for (unsigned g = 0; g < GROUPS; g++) {
        __m512i begin = _mm512_srli_epi32(_mm512_add_epi32(positions[g], _mm512_set1_epi32(7 - 128)), 3);
        _mm512_storeu_si512(at + 16 * g, begin);
        __m512i count = _mm512_and_si512(_mm512_sub_epi32(_mm512_setzero_si512(), positions[g]), _mm512_set1_epi32(7));
        shift[g] = _mm512_cvtepi32_epi16(count);
    }
    __asm__("" : "+m"(at)); /* or the compiler takes them out of the vectors one by one */
    load_words(w->a, src, at, _mm512_inserti64x4(_mm512_castsi256_si512(shift[0]), shift[1], 1));
    load_words(w->b, src, at + 32, _mm512_inserti64x4(_mm512_castsi256_si512(shift[2]), shift[3], 1));
}

static inline void skip(__m512i words[4], __m512i count)
{
    words[0] = _mm512_shldv_epi16(words[0], words[1], count);
    words[1] = _mm512_shldv_epi16(words[1], words[2], count);
    words[2] = _mm512_shldv_epi16(words[2], words[3], count);
    words[3] = _mm512_shldv_epi16(words[3], _mm512_setzero_si512(), count);
}

/* The first four words, without `count` bits, 64 at most. */
static inline void skip_many(__m512i to[4], const __m512i words[WORDS], __m512i count)
{
    __mmask32 four = _mm512_test_epi16_mask(count, _mm512_set1_epi16(64));
    __mmask32 two = _mm512_test_epi16_mask(count, _mm512_set1_epi16(32));
    __mmask32 one = _mm512_test_epi16_mask(count, _mm512_set1_epi16(16));
    __m512i a[8], b[6];
    for (unsigned i = 0; i < 4; i++)
        a[i] = _mm512_mask_mov_epi16(words[i], four, words[i + 4]);
    a[4] = _mm512_maskz_mov_epi16(~four, words[4]);
    for (unsigned i = 5; i < 8; i++)
        a[i] = words[i];
    for (unsigned i = 0; i < 6; i++)
        b[i] = _mm512_mask_mov_epi16(a[i], two, a[i + 2]);
    for (unsigned i = 0; i < 5; i++)
        b[i] = _mm512_mask_mov_epi16(b[i], one, b[i + 1]);
    for (unsigned i = 0; i < 4; i++)
        to[i] = _mm512_shldv_epi16(b[i], b[i + 1], count);
}

/* The next symbol of each lane to a row, those of a and b in turns; the bits of their codes, so too. `few_long`: the
 * long codes are all in the first halves of their tables; it is known when this is compiled. */
static inline __attribute__((always_inline)) __m512i take_one(uint8_t *row, windows *w, const tables *t, bool few_long)
{
    const __m512i of_b = _mm512_set1_epi16((short)0xFF00);
    __m512i first = _mm512_ternarylogic_epi64(_mm512_srli_epi16(w->a[0], 8), w->b[0], of_b, 0xD8);
    __m512i whole = _mm512_ternarylogic_epi64(_mm512_srli_epi16(w->a[0], 5), _mm512_slli_epi16(w->b[0], 3), of_b, 0xD8);
    __mmask64 is_long = _mm512_cmplt_epu8_mask(first, t->first_short);
    __mmask64 upper = _mm512_movepi8_mask(first), long_upper = _mm512_movepi8_mask(whole);
    __m512i long_length = few_long ? _mm512_permutex2var_epi8(t->long_length[0], whole, t->long_length[1])
                                   : look_up(t->long_length, whole, long_upper);
    __m512i long_symbol = few_long ? _mm512_permutex2var_epi8(t->long_symbol[0], whole, t->long_symbol[1])
                                   : look_up(t->long_symbol, whole, long_upper);
    __m512i length = _mm512_mask_mov_epi8(look_up(t->length, first, upper), is_long, long_length);
    __m512i symbol = _mm512_mask_mov_epi8(look_up(t->symbol, first, upper), is_long, long_symbol);
    _mm512_store_si512(row, symbol);
    skip(w->a, length); /* which counts by the lowest 4 bits */
    skip(w->b, _mm512_srli_epi16(length, 8));
    return length;
}

/* Take `steps` of all lanes of `count` blocks, which is known when this is compiled; STEPS_MIN if there are not the
 * bits for more. The first half loads the words, of which the second has the rest. The lanes are moved on; how many
 * steps. */
static inline __attribute__((always_inline)) unsigned take(lanes *l, loaded *words, bool second, unsigned count,
                                                           bool few_long, unsigned row, unsigned steps)
{
    windows w[BLOCKS];
    __m512i sum[BLOCKS], least[BLOCKS] = {0};
    for (unsigned k = 0; k < count; k++) {
        if (second) {
            skip_many(w[k].a, words[k].a, _mm512_and_si512(l[k].taken, _mm512_set1_epi16(0xFF)));
            skip_many(w[k].b, words[k].b, _mm512_srli_epi16(l[k].taken, 8));
        } else {
            __m512i from[GROUPS];
            for (unsigned g = 0; g < GROUPS; g++)
                from[g] = _mm512_max_epi32(l[k].position[g], _mm512_set1_epi32(128));
            load_windows(&words[k], l[k].block->src, from);
            for (unsigned i = 0; i < 4; i++) {
                w[k].a[i] = words[k].a[i];
                w[k].b[i] = words[k].b[i];
            }
        }
        sum[k] = _mm512_setzero_si512();
    }
    __mmask64 beyond = 0;
    for (unsigned i = 0; i < steps; i++) /* what waits in one block is filled with the other */
        for (unsigned k = 0; k < count; k++) {
            least[k] = i == STEPS_MIN ? sum[k] : least[k];
            sum[k] = _mm512_add_epi8(sum[k], take_one(l[k].rows + (row + i) * ROW, &w[k], &l[k].t, few_long));
        }
    for (unsigned k = 0; k < count; k++) {
        beyond |= _mm512_cmpgt_epu8_mask(sum[k], _mm512_set1_epi8(HALF));
        if (second)
            beyond |= _mm512_cmpgt_epu8_mask(_mm512_add_epi8(sum[k], l[k].taken), _mm512_set1_epi8(LOADED));
    }
    for (unsigned k = 0; k < count; k++) {
        __m512i bits = l[k].taken = beyond && steps > STEPS_MIN ? least[k] : sum[k];
        __m512i a = _mm512_and_si512(bits, _mm512_set1_epi16(0xFF)), b = _mm512_srli_epi16(bits, 8);
        __m512i taken[GROUPS];
        taken[0] = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(a));
        taken[1] = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(a, 1));
        taken[2] = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(b));
        taken[3] = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(b, 1));
        for (unsigned g = 0; g < GROUPS; g++)
            l[k].position[g] = _mm512_sub_epi32(l[k].position[g], taken[g]);
    }
    return beyond ? STEPS_MIN : steps;
}

/* 64 places are too many for a processor to foresee what is read next. Prefetching gained nothing over this. */
static void bring_near(const uint8_t *src, size_t size)
{
    for (size_t i = 0; i < size; i += 64)
        (void)*(const volatile uint8_t *)(src + i);
}

typedef struct {
    unsigned done, row, steps; /* rows stored, rows since then, and at once */
} progress;

/* False if every lane is at its stop, or there is no more room. */
static inline __attribute__((always_inline)) bool run_half(lanes *l, loaded *words, progress *p, bool second,
                                                           unsigned count, bool few_long)
{
    __mmask16 any = 0;
    for (unsigned k = 0; k < count; k++)
        for (unsigned g = 0; g < GROUPS; g++) {
            __mmask16 goes = _mm512_cmpgt_epi32_mask(l[k].position[g], l[k].stop[g]);
            l[k].last[g] = _mm512_mask_mov_epi32(l[k].last[g], goes, l[k].position[g]);
            __m512i here = _mm512_set1_epi32((int)(p->done + p->row));
            l[k].last_row[g] = _mm512_mask_mov_epi32(l[k].last_row[g], goes, here);
            any |= goes;
        }
    if (!any) {
        for (unsigned k = 0; k < count; k++) {
            store_rows(&l[k], p->done);
            l[k].stored = p->done + p->row;
        }
        return false;
    }
    unsigned taken = take(l, words, second, count, few_long, p->row, p->steps);
    p->steps -= taken < p->steps;
    p->row += taken;
    if (p->row >= ROWS_STORED) {
        p->row -= ROWS_STORED;
        for (unsigned k = 0; k < count; k++) {
            store_rows(&l[k], p->done);
            l[k].stored = p->done + ROWS_STORED;
            memcpy(l[k].rows, l[k].rows + ROWS_STORED * ROW, p->row * ROW);
        }
        p->done += ROWS_STORED;
    }
    return p->done + ROWS <= LANE_SIZE;
}

static inline __attribute__((always_inline)) void run(lanes *l, unsigned count, bool few_long, unsigned steps)
{
    loaded words[BLOCKS];
    progress p = {0, 0, steps};
    while (run_half(l, words, &p, false, count, few_long) && run_half(l, words, &p, true, count, few_long))
        ;
}

/* ---- Proof ---- */

/* Bits left of stream i, counted from the begin of src. */
static int position_of(const znn_huff0_readers *s, unsigned i, const uint8_t *src)
{
    return (int)(s->at[i] - src) * 8 + 64 - (int)__builtin_ctzll(s->bits[i]);
}

static void stand_at(znn_huff0_readers *s, unsigned i, const uint8_t *src, int position, uint8_t *out)
{
    s->out[i] = out;
    s->at[i] = src + (position + 7) / 8 - 8;
    s->bits[i] = (znn_load64(s->at[i]) | 1) << (-position & 7);
}

/* Follow lane after lane of stream i, from its begin, while each meets the next. */
static void prove(const lanes *l, unsigned i)
{
    znn_huff0_readers *s = l->block->streams;
    const uint8_t *src = l->block->src, *lengths = l->block->lengths;
    const int *start = l->start[i];
    int last[PER_GROUP], last_row[PER_GROUP];
    _mm512_storeu_si512(last, l->last[i]);
    _mm512_storeu_si512(last_row, l->last_row[i]);
    const int least = (int)(s->begin[i] - src) * 8 + 64; /* where the reader may stand */
    int position = start[0];
    uint8_t *out = s->out[i];
    size_t begin = 0; /* of a lane's symbols: those before are of the lane before */
    const size_t most_skipped = ZNN_MIN(SKIP_MAX, l->stored);
    bool met = true;
    for (unsigned j = 0; met && j < PER_GROUP; j++) {
        const uint8_t *symbols = l->symbols + (i * PER_GROUP + j) * LANE_SIZE, *of_next = symbols + LANE_SIZE;
        size_t end = (size_t)last_row[j], skipped = 0;
        int at = last[j];
        if (at < least || end < begin || end - begin > (size_t)(s->end[i] - out))
            break;
        if (j + 1 < PER_GROUP) { /* symbol by symbol of this lane, and of those that are the next one's first */
            int next = start[j + 1];
            size_t n = end;
            while (at != next && ZNN_MIN(at, next) >= least && n < l->stored && skipped < most_skipped) {
                if (at > next)
                    at -= lengths[symbols[n++]];
                else
                    next -= lengths[of_next[skipped++]];
            }
            met = at == next && at >= least && n - begin <= (size_t)(s->end[i] - out);
            end = met ? n : end;
            at = met ? at : last[j];
        }
        znn_copy_out(out, symbols + begin, end - begin, l->block->large);
        out += end - begin;
        position = at;
        begin = skipped;
    }
    stand_at(s, i, src, position, out);
}

/* Where the lanes of a block begin to warm up. */
static void place(lanes *l, unsigned warm_up_bits)
{
    const znn_huff0_readers *s = l->block->streams;
    const uint8_t *src = l->block->src;
    for (unsigned g = 0; g < GROUPS; g++) {
        int begin = (int)(s->begin[g] - src) * 8, end = position_of(s, g, src);
        for (unsigned j = 0; j < PER_GROUP; j++) {
            int at = end - (end - begin) / PER_GROUP * (int)j;
            l->start[g][j] = ZNN_MIN(end, at + (int)warm_up_bits);
        }
        l->position[g] = _mm512_loadu_si512(l->start[g]);
    }
}

/* From where they are now, all of them count. */
static void start(lanes *l)
{
    const znn_huff0_readers *s = l->block->streams;
    const uint8_t *src = l->block->src;
    for (unsigned g = 0; g < GROUPS; g++) {
        int stop[PER_GROUP];
        _mm512_storeu_si512(l->start[g], l->position[g]);
        l->start[g][0] = position_of(s, g, src);
        memcpy(stop, l->start[g] + 1, sizeof stop - sizeof *stop);
        stop[PER_GROUP - 1] = (int)(s->begin[g] - src) * 8 + 128;
        l->position[g] = l->last[g] = _mm512_loadu_si512(l->start[g]);
        l->stop[g] = _mm512_loadu_si512(stop);
        l->last_row[g] = _mm512_setzero_si512();
    }
}

void znn_huff0_lanes_avx512(uint8_t *memory, const znn_huff0_lanes_block *blocks, unsigned given)
{
    lanes l[BLOCKS];
    unsigned count = 0;
    bool few_long = true;
    size_t symbols = 0, bytes = 0;
    for (unsigned k = 0; k < given; k++) {
        const znn_huff0_lanes_block *b = &blocks[k];
        if (!load_tables(&l[count].t, b->one))
            continue;
        few_long &= l[count].t.few_long;
        bring_near(b->src, b->src_size);
        l[count].block = b;
        l[count].rows = memory + (-(uintptr_t)memory & (ROW - 1)) + count * ZNN_HUFF0_LANES_MEMORY;
        l[count].symbols = l[count].rows + ROWS * ROW;
        count++;
        bytes += b->src_size;
        for (unsigned g = 0; g < GROUPS; g++)
            symbols += (size_t)(b->streams->end[g] - b->streams->out[g]);
    }
    if (!count)
        return;
    unsigned per_symbol = (unsigned)(bytes * 8 * 16 / symbols); /* sixteenths of a bit */
    unsigned steps = ZNN_MAX(STEPS_MIN, ZNN_MIN(STEPS_MAX, 48 * 16 / ZNN_MAX(per_symbol, 1)));
    for (unsigned k = 0; k < count; k++)
        place(&l[k], WARM_UP * per_symbol / 16);
    loaded words[BLOCKS];
    for (unsigned i = 0; i < WARM_UP;)
        i += count == 2 ? take(l, words, false, 2, false, 0, steps) : take(l, words, false, 1, false, 0, steps);
    for (unsigned k = 0; k < count; k++)
        start(&l[k]);
    if (count == 2)
        few_long ? run(l, 2, true, steps) : run(l, 2, false, steps);
    else
        run(l, 1, false, steps);
    for (unsigned k = 0; k < count; k++)
        for (unsigned g = 0; g < GROUPS; g++)
            prove(&l[k], g);
}
