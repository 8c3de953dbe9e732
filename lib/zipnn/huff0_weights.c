/*
 * The description of a Huffman code (RFC 8878, 4.2.1): a byte, then the weights
 * of all symbols but the last, which follows from them; 4 bits each, or coded by
 * finite state entropy with two states that take turns.
 */
#include "zipnn/huff0.h"

#include "base/log2.h"

#define WEIGHT_MAX ZNN_HUFF0_BITS_MAX
#define ACCURACY_MIN 5
#define ACCURACY_MAX 6
#define STATES_MAX (1 << ACCURACY_MAX)
#define CODED_MAX 127  /* bytes that weights may be coded to */
#define DIRECT_MAX 128 /* weights of 4 bits each */

/* Which symbol each state stands for: frequencies below 1 first, from the end,
 * then the others, each step further on. */
static void spread(uint8_t symbol_of[STATES_MAX], const int *frequency, unsigned symbols, unsigned accuracy)
{
    unsigned size = 1u << accuracy, mask = size - 1, high = mask, at = 0;
    for (unsigned s = 0; s < symbols; s++)
        if (frequency[s] == -1)
            symbol_of[high--] = (uint8_t)s;
    for (unsigned s = 0; s < symbols; s++)
        for (int i = 0; i < frequency[s]; i++) {
            symbol_of[at] = (uint8_t)s;
            do
                at = (at + (size >> 1) + (size >> 3) + 3) & mask;
            while (at > high);
        }
}

/* ---- Reading ---- */

/* Bits from the lowest on; those past the end are 0. */
typedef struct {
    const uint8_t *src;
    size_t size, position; /* the latter in bits */
} forward_bits;

static unsigned peek(const forward_bits *b, unsigned count)
{
    unsigned value = 0;
    for (unsigned i = 0; i < 4; i++) {
        size_t at = b->position / 8 + i;
        value |= (at < b->size ? (unsigned)b->src[at] : 0) << (8 * i);
    }
    return (value >> (b->position % 8)) & ((1u << count) - 1);
}

/* The frequencies of the weights (4.1.1); the bytes they take, 0 on failure. */
static size_t read_frequencies(int frequency[WEIGHT_MAX + 1], unsigned *symbols, unsigned *accuracy, const uint8_t *src,
                               size_t size)
{
    forward_bits b = {src, size, 0};
    *accuracy = peek(&b, 4) + 5;
    b.position = 4;
    if (*accuracy > ACCURACY_MAX)
        return 0;
    int left = 1 << *accuracy;
    unsigned s = 0;
    while (left > 0) {
        if (s > WEIGHT_MAX)
            return 0;
        unsigned bits = znn_log2_floor((uint32_t)left + 1) + 1;
        unsigned value = peek(&b, bits), lower = value & ((1u << (bits - 1)) - 1);
        unsigned threshold = (1u << bits) - 1 - ((unsigned)left + 1);
        if (lower < threshold) {
            value = lower;
            b.position += bits - 1;
        } else {
            if (value > (1u << (bits - 1)) - 1)
                value -= threshold;
            b.position += bits;
        }
        frequency[s] = (int)value - 1;
        left -= frequency[s] < 0 ? 1 : frequency[s];
        if (frequency[s++] == 0) {
            unsigned more;
            do { /* how many zeros follow, three at a time */
                more = peek(&b, 2);
                b.position += 2;
                for (unsigned i = 0; i < more; i++) {
                    if (s > WEIGHT_MAX)
                        return 0;
                    frequency[s++] = 0;
                }
            } while (more == 3);
        }
    }
    *symbols = s;
    size_t bytes = (b.position + 7) / 8;
    return left == 0 && bytes <= size ? bytes : 0;
}

/* `count` bits below `position`, 6 at most; the byte after them can be read, too. */
static unsigned backward_bits(const uint8_t *src, size_t position, unsigned count)
{
    size_t at = position - count;
    return znn_load16(src + at / 8) >> (at % 8) & ((1u << count) - 1);
}

/* Weights by finite state entropy; their number, 0 on failure. */
static size_t read_coded(uint8_t weights[256], const uint8_t *src, size_t size)
{
    int frequency[WEIGHT_MAX + 1];
    unsigned symbols, accuracy;
    size_t head = read_frequencies(frequency, &symbols, &accuracy, src, size);
    if (!head || head >= size || !src[size - 1])
        return 0;
    uint8_t symbol_of[STATES_MAX] = {0}, bits_of[STATES_MAX] = {0}, base_of[STATES_MAX] = {0};
    spread(symbol_of, frequency, symbols, accuracy);
    unsigned next[WEIGHT_MAX + 1] = {0}, states = 1u << accuracy;
    for (unsigned s = 0; s < symbols; s++)
        next[s] = frequency[s] < 0 ? 1 : (unsigned)frequency[s];
    for (unsigned i = 0; i < states; i++) {
        unsigned x = next[symbol_of[i]]++, bits = accuracy - znn_log2_floor(x);
        bits_of[i] = (uint8_t)bits;
        base_of[i] = (uint8_t)((x << bits) - states);
    }
    src += head;
    size -= head;
    uint8_t padded[CODED_MAX + 1] = {0};
    memcpy(padded, src, size);
    size_t position = 8 * (size - 1) + znn_log2_floor(src[size - 1]);
    if (position < 2 * accuracy)
        return 0;
    unsigned state[2] = {backward_bits(padded, position, accuracy),
                         backward_bits(padded, position - accuracy, accuracy)};
    position -= 2 * (size_t)accuracy;
    size_t count = 0;
    for (unsigned turn = 0; count < 254; turn ^= 1) {
        unsigned x = state[turn];
        weights[count++] = symbol_of[x];
        if (position < bits_of[x]) {
            weights[count++] = symbol_of[state[turn ^ 1]];
            return count;
        }
        state[turn] = base_of[x] + backward_bits(padded, position, bits_of[x]);
        position -= bits_of[x];
    }
    return 0;
}

size_t znn_huff0_read_weights(uint8_t weights[256], const uint8_t *src, size_t src_size)
{
    if (!src_size)
        return 0;
    size_t count, size = src[0];
    memset(weights, 0, 256);
    if (size >= 128) {
        count = size - 127;
        size = (count + 1) / 2;
        if (size >= src_size)
            return 0;
        for (size_t i = 0; i < count; i++)
            weights[i] = i % 2 ? src[1 + i / 2] & 15 : src[1 + i / 2] >> 4;
    } else {
        if (size >= src_size)
            return 0;
        count = read_coded(weights, src + 1, size);
    }
    /* Whole codes fill 2^longest; the last weight is what is missing for that. */
    uint32_t sum = 0;
    unsigned longest_codes = 0;
    for (size_t i = 0; i < count; i++) {
        if (weights[i] > WEIGHT_MAX)
            return 0;
        sum += (1u << weights[i]) >> 1;
        longest_codes += weights[i] == 1;
    }
    if (!sum)
        return 0;
    unsigned longest = znn_log2_floor(sum) + 1;
    uint32_t missing = (1u << longest) - sum;
    if (longest > ZNN_HUFF0_BITS_MAX || missing & (missing - 1))
        return 0;
    weights[count] = (uint8_t)(znn_log2_floor(missing) + 1);
    longest_codes += weights[count] == 1;
    return longest_codes >= 2 ? 1 + size : 0;
}

/* ---- Writing ---- */

typedef struct {
    uint8_t *dst;
    size_t capacity, size;
    uint64_t bits;
    unsigned count;
    bool full;
} bit_writer;

static void put(bit_writer *w, unsigned value, unsigned count)
{
    w->bits |= (uint64_t)value << w->count;
    w->count += count;
    for (; w->count >= 8; w->count -= 8, w->bits >>= 8) {
        if (w->size < w->capacity)
            w->dst[w->size++] = (uint8_t)w->bits;
        else
            w->full = true;
    }
}

static void put_rest(bit_writer *w)
{
    if (w->count)
        put(w, 0, 8 - w->count);
}

/* Frequencies that sum to 2^accuracy, 1 or more for what occurs. */
static void normalise(int frequency[WEIGHT_MAX + 1], const unsigned occurs[WEIGHT_MAX + 1], size_t total,
                      unsigned accuracy)
{
    int left = 1 << accuracy;
    unsigned largest = 0;
    for (unsigned s = 0; s <= WEIGHT_MAX; s++) {
        int share = (int)(((uint64_t)occurs[s] << accuracy) / total);
        frequency[s] = occurs[s] && !share ? 1 : share;
        left -= frequency[s];
        if (occurs[s] > occurs[largest])
            largest = s;
    }
    frequency[largest] += left; /* may leave it nothing; the caller looks */
}

static void write_frequencies(bit_writer *w, const int frequency[WEIGHT_MAX + 1], unsigned accuracy)
{
    put(w, accuracy - 5, 4);
    int left = 1 << accuracy;
    for (unsigned s = 0; left > 0; s++) {
        unsigned bits = znn_log2_floor((uint32_t)left + 1) + 1;
        unsigned threshold = (1u << bits) - 1 - ((unsigned)left + 1), half = 1u << (bits - 1);
        unsigned value = (unsigned)frequency[s] + 1;
        if (value < threshold)
            put(w, value, bits - 1);
        else
            put(w, value < half ? value : value + threshold, bits);
        left -= frequency[s];
        if (frequency[s])
            continue;
        unsigned zeros = 0;
        while (left > 0 && frequency[s + 1] == 0) {
            zeros++;
            s++;
        }
        for (; zeros >= 3; zeros -= 3)
            put(w, 3, 2);
        put(w, zeros, 2);
    }
    put_rest(w);
}

static size_t write_coded(uint8_t *dst, size_t capacity, const uint8_t *weights, size_t count)
{
    unsigned occurs[WEIGHT_MAX + 1] = {0}, kinds = 0;
    for (size_t i = 0; i < count; i++)
        kinds += occurs[weights[i]]++ == 0;
    if (count < 4 || kinds < 2)
        return 0;
    unsigned accuracy = count < 32 ? ACCURACY_MIN : ACCURACY_MAX, states = 1u << accuracy;
    int frequency[WEIGHT_MAX + 1];
    normalise(frequency, occurs, count, accuracy);
    for (unsigned s = 0; s <= WEIGHT_MAX; s++)
        if (frequency[s] < 0 || (occurs[s] && !frequency[s]) || frequency[s] == (int)states)
            return 0;
    bit_writer w = {.dst = dst, .capacity = capacity};
    write_frequencies(&w, frequency, accuracy);

    /* For each symbol, its states in order: encoding takes x = frequency + i to the i-th. */
    uint8_t symbol_of[STATES_MAX], state_of[STATES_MAX];
    unsigned begin[WEIGHT_MAX + 1], used[WEIGHT_MAX + 1] = {0};
    spread(symbol_of, frequency, WEIGHT_MAX + 1, accuracy);
    for (unsigned s = 0, sum = 0; s <= WEIGHT_MAX; s++) {
        begin[s] = sum;
        sum += (unsigned)frequency[s];
    }
    for (unsigned i = 0; i < states; i++)
        state_of[begin[symbol_of[i]] + used[symbol_of[i]]++] = (uint8_t)i;

    /* Backwards, so that it reads forwards; the reader ends when a state asks for bits that are not there. */
    unsigned state[2];
    for (size_t i = count; i-- > 0;) {
        unsigned s = weights[i], turn = i % 2, f = (unsigned)frequency[s];
        if (i + 2 >= count) {
            /* Its first state asks for one bit at least, which is not there: so the reader ends. */
            state[turn] = state_of[begin[s]];
            continue;
        }
        unsigned x = state[turn] + states, bits = 0;
        while (x >> bits >= 2 * f)
            bits++;
        put(&w, x & ((1u << bits) - 1), bits);
        state[turn] = state_of[begin[s] + (x >> bits) - f];
    }
    put(&w, state[1], accuracy);
    put(&w, state[0], accuracy);
    put(&w, 1, 1);
    put_rest(&w);
    return w.full ? 0 : w.size;
}

size_t znn_huff0_write_weights(uint8_t *dst, size_t capacity, const uint8_t *weights, size_t count)
{
    size_t coded = write_coded(dst + 1, ZNN_MIN(capacity, 128) - 1, weights, count);
    size_t direct = count <= DIRECT_MAX ? (count + 1) / 2 : 0;
    if (coded && (!direct || coded < direct)) {
        dst[0] = (uint8_t)coded;
        return 1 + coded;
    }
    if (!direct || direct >= capacity)
        return 0;
    dst[0] = (uint8_t)(127 + count);
    for (size_t i = 0; i < count; i += 2)
        dst[1 + i / 2] = (uint8_t)(weights[i] << 4 | (i + 1 < count ? weights[i + 1] : 0));
    return 1 + direct;
}
