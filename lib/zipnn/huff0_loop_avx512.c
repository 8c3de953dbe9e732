/* Encoding by vectors of 64 symbols: each is looked up, and they are joined by
 * two, four and, where that fits, eight, and shifted to where they belong. */
#include "zipnn/huff0_loop.h"

#include <immintrin.h>

/* A value for each byte. */
typedef struct {
    __m512i part[4];
} table;

static inline table load_table(const uint8_t values[256])
{
    table t;
    for (unsigned i = 0; i < 4; i++)
        t.part[i] = _mm512_loadu_si512(values + 64 * i);
    return t;
}

static inline __m512i look_up(const table *t, __m512i x)
{
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), _mm512_permutex2var_epi8(t->part[0], x, t->part[1]),
                                  _mm512_permutex2var_epi8(t->part[2], x, t->part[3]));
}

/* ---- Writing ---- */

#define VECTOR 64
#define VECTOR_BYTES (VECTOR * ZNN_HUFF0_BITS_MAX / 8) /* of bits, at most */
#define EIGHT_MAX 63                                   /* bits that can be appended at once */

/* 64 symbols of a stream, joined by fours; of each eight, `second` has those at the higher addresses. */
typedef struct {
    __m512i first, second, first_count, second_count;
} joined;

/* Each dword's 4 bits of length and 11 of code, twice, become a code of both; the higher address comes first. */
static inline __m512i join_two(__m512i words, __m512i *lengths)
{
    __m512i ones = _mm512_set1_epi16(1), length = _mm512_srli_epi16(words, 12);
    __m512i factor = _mm512_sllv_epi16(ones, _mm512_srli_epi32(length, 16));
    *lengths = _mm512_madd_epi16(length, ones);
    return _mm512_madd_epi16(_mm512_and_si512(words, _mm512_set1_epi16(0x7FF)), factor);
}

static inline __m512i join_four(__m512i twos, __m512i *lengths)
{
    __m512i low = _mm512_and_si512(twos, _mm512_set1_epi64(0xFFFFFFFF)), high = _mm512_srli_epi64(*lengths, 32);
    *lengths = _mm512_and_si512(_mm512_add_epi32(*lengths, high), _mm512_set1_epi64(0xFF));
    return _mm512_or_si512(_mm512_srli_epi64(twos, 32), _mm512_sllv_epi64(low, high));
}

static inline joined join(const uint8_t *src, const table *low, const table *high)
{
    __m512i x = _mm512_loadu_si512(src), a = look_up(low, x), b = look_up(high, x), length[2];
    /* The lower and the upper 8 of each 16. */
    __m512i lower = join_four(join_two(_mm512_unpacklo_epi8(a, b), &length[0]), &length[0]);
    __m512i upper = join_four(join_two(_mm512_unpackhi_epi8(a, b), &length[1]), &length[1]);
    return (joined){_mm512_unpacklo_epi64(lower, upper), _mm512_unpackhi_epi64(lower, upper),
                    _mm512_unpacklo_epi64(length[0], length[1]), _mm512_unpackhi_epi64(length[0], length[1])};
}

/* What was written of a stream, and at most 7 bits that were not. */
typedef struct {
    uint8_t *out;
    uint64_t bits, count;
} tail;

static inline uint64_t low_of(__m128i v)
{
    return (uint64_t)_mm_cvtsi128_si64(v);
}

/* The upper first: what the lower writes goes over its end. */
static inline void store_two(uint8_t *out, uint64_t at, __m128i words)
{
    znn_store64(out + (uint8_t)(at >> 8), (uint64_t)_mm_extract_epi64(words, 1));
    znn_store64(out + (uint8_t)at, low_of(words));
}

/* Eights of 8 to 63 bits. Each is stored with what goes beyond whole bytes of the one before it, of which that is the
 * top; the last of a vector is the first to be written. */
static inline void append_eights(tail *t, __m512i eights, __m512i counts)
{
    __m512i zero = _mm512_setzero_si512(), carried = _mm512_set1_epi64((long long)t->count);
    __m512i sum = _mm512_add_epi64(counts, _mm512_alignr_epi64(zero, counts, 1));
    sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(zero, sum, 2));
    sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(zero, sum, 4));
    __m512i begin = _mm512_add_epi64(_mm512_sub_epi64(sum, counts), carried);
    __m512i shift = _mm512_and_si512(begin, _mm512_set1_epi64(7));
    __m512i before = _mm512_alignr_epi64(_mm512_set1_epi64((long long)t->bits), eights, 1);
    __m512i before_count = _mm512_alignr_epi64(carried, counts, 1);
    __m512i beyond = _mm512_srlv_epi64(before, _mm512_sub_epi64(before_count, shift));
    __m512i words = _mm512_or_si512(_mm512_sllv_epi64(eights, shift), beyond);
    uint64_t at = low_of(_mm512_cvtepi64_epi8(_mm512_srli_epi64(begin, 3)));
    store_two(t->out, at >> 48, _mm512_extracti64x2_epi64(words, 3));
    store_two(t->out, at >> 32, _mm512_extracti64x2_epi64(words, 2));
    store_two(t->out, at >> 16, _mm512_extracti64x2_epi64(words, 1));
    store_two(t->out, at, _mm512_castsi512_si128(words));
    uint64_t whole = t->count + low_of(_mm512_castsi512_si128(sum));
    t->count = whole & 7;
    t->bits = low_of(_mm512_castsi512_si128(eights)) >> (low_of(_mm512_castsi512_si128(counts)) - t->count);
    t->out += whole >> 3;
}

/* Fours of at most 44 bits. */
static inline void append_fours(tail *t, const joined *j)
{
    _Alignas(64) uint64_t bits[2][8];
    _Alignas(64) uint64_t count[2][8];
    _mm512_store_si512(bits[0], j->first);
    _mm512_store_si512(bits[1], j->second);
    _mm512_store_si512(count[0], j->first_count);
    _mm512_store_si512(count[1], j->second_count);
    tail r = *t;
    for (unsigned k = 16; k-- > 0;) {
        r.bits |= bits[k % 2][k / 2] << r.count;
        r.count += count[k % 2][k / 2];
        znn_store64(r.out, r.bits);
        r.out += r.count >> 3;
        r.bits >>= r.count & 56;
        r.count &= 7;
    }
    *t = r;
}

static inline void append(tail *t, const joined *j)
{
    __m512i counts = _mm512_add_epi64(j->first_count, j->second_count);
    if (_mm512_cmpgt_epu64_mask(counts, _mm512_set1_epi64(EIGHT_MAX)))
        append_fours(t, j);
    else
        append_eights(t, _mm512_or_si512(j->second, _mm512_sllv_epi64(j->first, j->second_count)), counts);
}

/* As write_rounds, for rounds of a vector of each stream. */
static inline size_t write_vectors(const znn_huff0_writer s[4])
{
    size_t least = SIZE_MAX;
    for (unsigned i = 0; i < 4; i++) {
        size_t room = (size_t)(s[i].end - s[i].out), symbols = (size_t)(s[i].at - s[i].from) / VECTOR;
        least = ZNN_MIN(least, ZNN_MIN(room < 8 ? 0 : (room - 8) / VECTOR_BYTES, symbols));
    }
    return least;
}

static void encode_vectors(znn_huff0_writer s[4], const uint64_t code[256])
{
    size_t left = write_vectors(s);
    if (left < 2)
        return; /* not worth the tables */
    uint8_t values[2][256];
    for (unsigned i = 0; i < 256; i++) {
        unsigned length = code[i] & 63, word = length ? (unsigned)(code[i] >> (64 - length)) | length << 12 : 0;
        values[0][i] = (uint8_t)word;
        values[1][i] = (uint8_t)(word >> 8);
    }
    const table low = load_table(values[0]), high = load_table(values[1]);
    tail t[4];
    for (unsigned i = 0; i < 4; i++)
        t[i] = (tail){s[i].out, s[i].count ? s[i].bits >> (64 - s[i].count) : 0, s[i].count};
    do {
        for (unsigned i = 0; i < 4; i++) {
            joined j = join(s[i].at -= VECTOR, &low, &high);
            append(&t[i], &j);
        }
    } while (--left);
    for (unsigned i = 0; i < 4; i++) {
        s[i].out = t[i].out;
        s[i].bits = t[i].count ? t[i].bits << (64 - t[i].count) : 0;
        s[i].count = t[i].count;
    }
}

static void encode_by_vectors(znn_huff0_writer s[4], const uint64_t code[256])
{
    encode_vectors(s, code);
    encode(s, code);
}

/* ---- Counting ---- */

static void mark_by_vectors(uint32_t count[256], const uint8_t *src, size_t size)
{
    uint8_t missed[256];
    for (unsigned s = 0; s < 256; s++)
        missed[s] = count[s] ? 0 : 255;
    table t = load_table(missed);
    size_t i = 0;
    for (; i + VECTOR <= size; i += VECTOR) {
        uint64_t found;
        while ((found = _mm512_movepi8_mask(look_up(&t, _mm512_loadu_si512(src + i)))) != 0) {
            uint8_t symbol = src[i + (unsigned)__builtin_ctzll(found)];
            count[symbol] = 1;
            missed[symbol] = 0;
            t = load_table(missed);
        }
    }
    mark(count, src + i, size - i);
}

const znn_huff0_loops znn_huff0_avx512 = {
    znn_huff0_lanes_avx512, one, one_twice, many, encode_by_vectors, mark_by_vectors,
};
