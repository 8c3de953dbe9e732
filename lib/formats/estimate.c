#include "formats/estimate.h"

#include "base/log2.h"

#define UNIT 256
#define COST_MAX (14 * UNIT) /* of a value never seen */
#define REPEAT 6             /* bytes that make a match worth while for zstd */
#define MATCH_BITS 18
#define REPEAT_LOG 12
#define MARGIN 33 /* numbers must beat bytes by 1/MARGIN */
#define LEAST 256 /* bytes that say anything at all */
#define NOISE 100 /* saving less than 1/NOISE is no structure at all */

/* ---- the fields of each dtype ------------------------------------------ */

typedef struct {
    unsigned size; /* of an element */
    unsigned fields;
    unsigned raw; /* bits that no field holds: noise */
    struct {
        uint8_t shift, mask;
    } field[ZNN_PROBE_FIELDS];
} layout;

static const layout float64 = {
    8, 9, 1, {{52, 255}, {60, 7}, {48, 15}, {0, 255}, {8, 255}, {16, 255}, {24, 255}, {32, 255}, {40, 255}}};
static const layout float32 = {4, 4, 1, {{23, 255}, {16, 127}, {0, 255}, {8, 255}}};
static const layout bfloat16 = {2, 2, 1, {{7, 255}, {0, 127}}};
static const layout float16 = {2, 2, 1, {{8, 127}, {0, 255}}};
static const layout bytes1 = {1, 1, 0, {{0, 255}}};
static const layout bytes2 = {2, 2, 0, {{0, 255}, {8, 255}}};
static const layout bytes4 = {4, 4, 0, {{0, 255}, {8, 255}, {16, 255}, {24, 255}}};
static const layout bytes8 = {
    8, 8, 0, {{0, 255}, {8, 255}, {16, 255}, {24, 255}, {32, 255}, {40, 255}, {48, 255}, {56, 255}}};

static inline const layout *layout_of(znn_dtype dtype)
{
    switch (dtype) {
    case ZNN_F64: return &float64;
    case ZNN_F32: return &float32;
    case ZNN_BF16: return &bfloat16;
    case ZNN_F16: return &float16;
    case ZNN_I16: return &bytes2;
    case ZNN_I32: return &bytes4;
    case ZNN_I64: return &bytes8;
    default: return &bytes1;
    }
}

static inline uint64_t load(const uint8_t *p, unsigned size)
{
    return size == 1 ? *p : size == 2 ? znn_load16(p) : size == 4 ? znn_load32(p) : znn_load64(p);
}

/* ---- entropy ------------------------------------------------------------ */

/* c * log2(c), from the logarithms of 256 to 511, in 1/256 bits. */
static const uint8_t fraction[256] = {
    0,   1,   2,   4,   5,   7,   8,   9,   11,  12,  14,  15,  16,  18,  19,  21,  22,  23,  25,  26,  27,  29,
    30,  31,  33,  34,  35,  37,  38,  39,  40,  42,  43,  44,  46,  47,  48,  49,  51,  52,  53,  54,  56,  57,
    58,  59,  61,  62,  63,  64,  65,  67,  68,  69,  70,  71,  73,  74,  75,  76,  77,  78,  80,  81,  82,  83,
    84,  85,  87,  88,  89,  90,  91,  92,  93,  94,  96,  97,  98,  99,  100, 101, 102, 103, 104, 105, 106, 108,
    109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 131,
    132, 133, 134, 135, 136, 137, 138, 139, 140, 140, 141, 142, 143, 144, 145, 146, 147, 148, 149, 150, 151, 152,
    153, 154, 155, 156, 157, 158, 159, 160, 161, 162, 162, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173,
    173, 174, 175, 176, 177, 178, 179, 180, 181, 181, 182, 183, 184, 185, 186, 187, 188, 188, 189, 190, 191, 192,
    193, 194, 194, 195, 196, 197, 198, 199, 200, 200, 201, 202, 203, 204, 205, 205, 206, 207, 208, 209, 209, 210,
    211, 212, 213, 214, 214, 215, 216, 217, 218, 218, 219, 220, 221, 222, 222, 223, 224, 225, 225, 226, 227, 228,
    229, 229, 230, 231, 232, 232, 233, 234, 235, 235, 236, 237, 238, 239, 239, 240, 241, 242, 242, 243, 244, 245,
    245, 246, 247, 247, 248, 249, 250, 250, 251, 252, 253, 253, 254, 255,
};

static inline uint32_t log2_fast(uint32_t c)
{
    unsigned whole = 31u - (unsigned)__builtin_clz(c);
    return whole << 8 | fraction[(whole > 8 ? c >> (whole - 8) : c << (8 - whole)) & 255];
}

/* What n values with these counts take, the table that says so included: 0.72
 * bits for a value is what an empirical entropy falls short of the true one. */
static uint64_t entropy(const uint16_t *counts, unsigned values, unsigned bits)
{
    uint64_t n = 0, sum = 0;
    unsigned seen = 0;
    for (unsigned i = 0; i < values; i++) {
        uint32_t c = counts[i];
        if (!c)
            continue;
        n += c;
        sum += (uint64_t)c * log2_fast(c);
        seen++;
    }
    if (n == 0)
        return 0;
    uint64_t cost = n * log2_fast((uint32_t)n) - sum + (seen - 1) * (uint64_t)185;
    return ZNN_MIN(cost, n * bits * UNIT);
}

/* ---- looks -------------------------------------------------------------- */

typedef struct {
    uint16_t byte[8][256];      /* by position modulo 8 */
    uint16_t exponent8[8][256]; /* bits 14..7 of the two bytes that end there: BF16's and F32's exponent */
} histograms;

static void count(histograms *h, const uint8_t *src, size_t n)
{
    memset(h, 0, sizeof *h);
    uint32_t two = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (unsigned k = 0; k < 8; k++) {
            two = two >> 8 | (uint32_t)src[i + k] << 8;
            h->byte[k][two >> 8]++;
            h->exponent8[k][two >> 7 & 255]++;
        }
    }
    for (; i < n; i++) {
        two = two >> 8 | (uint32_t)src[i] << 8;
        h->byte[i % 8][two >> 8]++;
        h->exponent8[i % 8][two >> 7 & 255]++;
    }
}

/* Bits 11..4 of the two bytes before and at each position: the low bits of F64's exponent. */
static void count11(uint16_t counts[8][256], const uint8_t *src, size_t n)
{
    memset(counts, 0, 8 * sizeof *counts);
    for (size_t i = 1; i < n; i++)
        counts[i % 8][(src[i] << 4 | src[i - 1] >> 4) & 255]++;
}

/* The sum of every (period)th histogram, from the one at `phase` on. */
static const uint16_t *merged(uint16_t out[256], uint16_t h[8][256], unsigned phase, unsigned period)
{
    phase %= period;
    if (period == 8)
        return h[phase];
    memcpy(out, h[phase], 256 * sizeof *out);
    for (unsigned k = phase + period; k < 8; k += period)
        for (unsigned i = 0; i < 256; i++)
            out[i] = (uint16_t)(out[i] + h[k][i]);
    return out;
}

static void fold(uint16_t *out, const uint16_t *h, unsigned mask, unsigned shift)
{
    memset(out, 0, 256 * sizeof *out);
    for (unsigned i = 0; i < 256; i++)
        out[i >> shift & mask] = (uint16_t)(out[i >> shift & mask] + h[i]);
}

/* What zstd would take: an entropy coder's share of what it finds nowhere before. */
static uint64_t zstd_cost(const uint8_t *src, size_t n, uint64_t order0, size_t *repeated)
{
    uint16_t last[1 << REPEAT_LOG];
    memset(last, 0xff, sizeof last);
    uint64_t matches = 0;
    *repeated = 0;
    for (size_t i = 0; i + 8 <= n;) {
        uint64_t v = znn_load64(src + i) << 8 * (8 - REPEAT);
        uint16_t *slot = &last[v * UINT64_C(0x9E3779B97F4A7C15) >> (64 - REPEAT_LOG)];
        const uint8_t *before = src + *slot;
        const bool found = *slot != 0xffff && memcmp(before, src + i, REPEAT) == 0;
        *slot = (uint16_t)i;
        size_t length = found ? REPEAT : 1;
        while (found && i + length < n && before[length] == src[i + length])
            length++;
        i += length;
        matches += found;
        *repeated += found ? length : 0;
    }
    uint64_t cost = order0 / n * (n - *repeated) + matches * MATCH_BITS * UNIT;
    return ZNN_MIN(cost, order0);
}

/* Bytes of no phase: floats of 8 bits have a sign that depends on nothing, and
 * neighbours that do not know each other; integers have only the latter. */
static znn_dtype kind_of_bytes(const uint8_t *src, size_t n, const uint16_t *all, uint64_t order0)
{
    uint16_t folded[256], low[256], pairs[256] = {0}; /* of the neighbours' high nibbles */
    for (size_t i = 1; i < n; i++)
        pairs[(src[i] & 0xf0) | src[i - 1] >> 4]++;
    fold(folded, all, 15, 4);
    uint64_t apart = 2 * entropy(folded, 16, 4), together = entropy(pairs, 256, 8);
    if (order0 + n * 8 * UNIT / NOISE > n * 8 * UNIT || together + n * UNIT / 16 < apart || n < 2048)
        return ZNN_BYTES;
    size_t negative = 0;
    for (unsigned i = 128; i < 256; i++)
        negative += all[i];
    fold(low, all, 127, 0);
    uint64_t magnitude = entropy(low, 128, 7);
    if (negative < n / 3 || negative > n - n / 3 || order0 + n * UNIT / 10 < magnitude + n * UNIT)
        return ZNN_I8;
    /* Exponent and the bits below it: E5M2's exponent has one more. */
    fold(folded, low, 15, 3);
    uint64_t e4m3 = entropy(folded, 16, 4) + n * 3 * UNIT;
    fold(folded, low, 31, 2);
    uint64_t e5m2 = entropy(folded, 32, 5) + n * 2 * UNIT;
    return e5m2 + n * UNIT / 8 < e4m3 ? ZNN_F8_E5M2 : ZNN_F8_E4M3;
}

/* Parts in 1000 of the bytes' size by which larger elements, and integers, must
 * be better: a larger element sees all that a smaller one does, and chance. */
static const uint8_t handicap[ZNN_DTYPE_COUNT] = {
    [ZNN_I16] = 5, [ZNN_F32] = 5, [ZNN_I32] = 10, [ZNN_F64] = 20, [ZNN_I64] = 35};

static void consider(znn_look *look, znn_dtype dtype, unsigned phase, uint64_t cost)
{
    cost += (uint64_t)look->size * 8 * UNIT * handicap[dtype] / 1000;
    look->costs[dtype][phase] = cost;
    if (cost < look->cost) {
        look->cost = cost;
        look->dtype = dtype;
        look->phase = phase;
    }
}

/* The codec finds structure in any field, so that at a wrong phase a float costs
 * little more; but there it is another field that says most, or the exponent is
 * the zeros below clean values. What it then must be better by. */
static uint64_t misplaced(const znn_look *look, uint64_t exponent, const uint64_t *others, unsigned count,
                          size_t elements)
{
    const uint64_t constant = elements * UNIT / 8;
    bool right = exponent >= constant;
    for (unsigned i = 0; i < count; i++)
        right = right && (others[i] < constant || exponent <= others[i]);
    return right ? 0 : look->size * 8 * UNIT / 50;
}

void znn_look_at(znn_look *look, const uint8_t *src, size_t n)
{
    if (n < LEAST) {
        memset(look, 0, sizeof *look);
        look->size = n;
        look->dtype = ZNN_BYTES;
        return;
    }
    histograms h;
    uint16_t m[256], f[256], all[256];
    uint64_t byte8[8], byte4[4], byte2[2], low4[4], low2[2];
    count(&h, src, n);
    for (unsigned k = 0; k < 8; k++)
        byte8[k] = entropy(h.byte[k], 256, 8);
    for (unsigned k = 0; k < 4; k++) {
        const uint16_t *t = merged(m, h.byte, k, 4);
        byte4[k] = entropy(t, 256, 8);
        fold(f, t, 127, 0);
        low4[k] = entropy(f, 128, 7);
    }
    for (unsigned k = 0; k < 2; k++) {
        const uint16_t *t = merged(m, h.byte, k, 2);
        byte2[k] = entropy(t, 256, 8);
        fold(f, t, 127, 0);
        low2[k] = entropy(f, 128, 7);
    }
    merged(all, h.byte, 0, 1);
    uint64_t order0 = entropy(all, 256, 8);

    memset(look->costs, 0xff, sizeof look->costs);
    look->cost = UINT64_MAX;
    look->size = n;
    /* On a tie the first wins: small elements before large, floats before integers. */
    for (unsigned p = 0; p < 2; p++) {
        const unsigned top = 1 - p;
        const uint16_t *exponents = merged(m, h.exponent8, top, 2);
        uint64_t cost = entropy(exponents, 256, 8);
        fold(f, exponents, 31, 3);
        /* An F16 read as BF16 has 3 bits of mantissa at the end of its exponent: noise. */
        bool is_f16 = cost > entropy(f, 32, 5) + n / 2 * UNIT * 5 / 2;
        consider(look, ZNN_BF16, p, cost + low2[p] + n / 2 * UNIT + (is_f16 ? n * 8 * UNIT / 100 : 0));
        consider(look, ZNN_F16, p,
                 low2[top] + low2[p] + n / 2 * 2 * UNIT + misplaced(look, low2[top], &low2[p], 1, n / 2));
    }
    uint64_t eight[4]; /* bits 14..7 of two neighbours: an exponent, or bits of a mantissa */
    for (unsigned k = 0; k < 4; k++)
        eight[k] = entropy(merged(m, h.exponent8, k, 4), 256, 8);
    for (unsigned p = 0; p < 4; p++) {
        const uint64_t exponent = eight[(p + 3) % 4], others[3] = {eight[(p + 2) % 4], eight[(p + 1) % 4], low4[p]};
        consider(look, ZNN_F32, p,
                 exponent + others[0] + others[1] + others[2] + n / 4 * UNIT +
                     misplaced(look, exponent, others, 3, n / 4));
    }
    uint64_t groups4 = byte4[0] + byte4[1] + byte4[2] + byte4[3], groups8 = 0;
    for (unsigned k = 0; k < 8; k++)
        groups8 += byte8[k];
    /* Where a period of 8 shows nothing that one of 4 does not, there is no F64. */
    uint16_t exponents[8][256];
    const bool period8 = groups8 + groups8 / 50 < groups4;
    if (period8)
        count11(exponents, src, n);
    for (unsigned p = 0; p < 8 && period8; p++) {
        unsigned top = (p + 7) % 8, second = (p + 6) % 8;
        fold(f, h.byte[top], 7, 4);
        const uint64_t exponent = entropy(f, 8, 3) + entropy(exponents[top], 256, 8);
        uint64_t rest[6], cost = exponent + n / 8 * UNIT;
        for (unsigned k = 0; k < 6; k++)
            cost += rest[k] = byte8[(p + k) % 8];
        fold(f, h.byte[second], 15, 0);
        consider(look, ZNN_F64, p, cost + entropy(f, 16, 4) + misplaced(look, exponent, rest, 6, n / 8));
    }
    for (unsigned p = 0; p < 8; p++) {
        consider(look, ZNN_I64, p, groups8);
        consider(look, ZNN_I32, p, groups4);
        consider(look, ZNN_I16, p, byte2[0] + byte2[1]);
    }
    /* Floats repeat nothing; of other things zstd may know more. */
    const bool is_float = look->dtype >= ZNN_F16 && look->cost < order0 - order0 / MARGIN;
    size_t repeated = 0;
    uint64_t bytes = is_float ? order0 : zstd_cost(src, n, order0, &repeated);
    look->costs[ZNN_BYTES][0] = look->costs[ZNN_I8][0] = bytes;
    look->costs[ZNN_F8_E4M3][0] = look->costs[ZNN_F8_E5M2][0] = bytes;
    if (look->cost > bytes - bytes / MARGIN) {
        look->dtype = repeated > n / 32 ? ZNN_BYTES : kind_of_bytes(src, n, all, order0);
        look->phase = 0;
        look->cost = bytes;
    }
}

uint64_t znn_look_cost(const znn_look *look, znn_dtype dtype, unsigned phase)
{
    return look->costs[dtype][phase];
}

/* ---- models -------------------------------------------------------------- */

static inline __attribute__((always_inline)) uint64_t cost_of(const znn_probe_model *m, const uint8_t *src, size_t n,
                                                              unsigned size, unsigned fields)
{
    uint64_t sum = 0;
    for (size_t i = 0; i + size <= n; i += size) {
        uint64_t v = load(src + i, size);
        for (unsigned f = 0; f < fields; f++)
            sum += m->cost[f][v >> m->shift[f] & 255];
    }
    return sum + (uint64_t)(n / size) * m->raw;
}

static inline __attribute__((always_inline)) uint64_t cost_of_size(const znn_probe_model *m, const uint8_t *src,
                                                                   size_t n, unsigned fields)
{
    switch (znn_dtype_size(m->dtype)) {
    case 1: return cost_of(m, src, n, 1, fields);
    case 2: return cost_of(m, src, n, 2, fields);
    case 4: return cost_of(m, src, n, 4, fields);
    default: return cost_of(m, src, n, 8, fields);
    }
}

uint64_t znn_model_cost(const znn_probe_model *m, const uint8_t *src, size_t n)
{
    switch (m->fields) {
    case 0: return n / znn_dtype_size(m->dtype) * (uint64_t)m->raw;
    case 1: return cost_of_size(m, src, n, 1);
    case 2: return cost_of_size(m, src, n, 2);
    default: return cost_of_size(m, src, n, m->fields);
    }
}

/* Bytes have less to say than numbers. */
static size_t sample_size(znn_dtype dtype)
{
    return znn_dtype_size(dtype) == 1 ? ZNN_SAMPLE_MAX : ZNN_SAMPLE_MAX / 2;
}

/* How uneven the bytes are by position modulo 4 (so that numbers hidden in noise
 * show), and in all, as sums of squares. */
static void unevenness(const uint8_t *src, size_t n, uint32_t *by_position, uint32_t *all)
{
    uint16_t counts[4][32] = {{0}};
    for (size_t i = 0; i < n; i++)
        counts[i % 4][(src[i] & 127) >> 2]++;
    *by_position = *all = 0;
    for (unsigned b = 0; b < 32; b++) {
        uint32_t sum = 0;
        for (unsigned k = 0; k < 4; k++) {
            *by_position += 4 * (uint32_t)counts[k][b] * counts[k][b];
            sum += counts[k][b];
        }
        *all += sum * sum;
    }
}

/* The same for the second byte of F32s, where a BF16 would have its exponent. */
static uint32_t unevenness_of_low(const uint8_t *src, size_t n)
{
    uint16_t counts[32] = {0};
    for (size_t i = 0; i + 4 <= n; i += 4)
        counts[(src[i + 1] & 127) >> 2]++;
    uint32_t sum = 0;
    for (unsigned b = 0; b < 32; b++)
        sum += (uint32_t)counts[b] * counts[b];
    return sum;
}

static uint32_t unevenness_of(const znn_probe_model *m, const uint8_t *src, size_t n)
{
    uint32_t by_position, all;
    switch (znn_dtype_size(m->dtype)) {
    case 1: unevenness(src, n, &by_position, &all); return all;
    case 4: return unevenness_of_low(src, n);
    default: return 0;
    }
}

void znn_model_train(znn_probe_model *m, znn_dtype dtype, const uint8_t *src, size_t n)
{
    const layout *l = layout_of(dtype);
    const size_t elements = n / l->size;
    uint32_t counts[256];
    memset(m, 0, sizeof *m);
    m->dtype = dtype;
    m->raw = l->raw * UNIT;
    for (unsigned f = 0; f < l->fields; f++) {
        const unsigned mask = l->field[f].mask;
        memset(counts, 0, sizeof counts);
        for (size_t i = 0; i < elements; i++)
            counts[load(src + i * l->size, l->size) >> l->field[f].shift & mask]++;
        /* A count and 1/16 for each value, so that what was not seen costs something finite. */
        const uint32_t total = log2_fast((uint32_t)(16 * elements + mask + 1));
        uint16_t *cost = m->cost[m->fields];
        uint64_t sum = 0;
        for (unsigned i = 0; i < 256; i++) {
            cost[i] = (uint16_t)ZNN_MIN(total - log2_fast(16 * counts[i & mask] + 1), (uint32_t)COST_MAX);
            sum += i <= mask ? (uint64_t)counts[i] * cost[i] : 0;
        }
        /* Noise: its statistics would say more of the sample than of what follows. */
        const unsigned noise = (unsigned)__builtin_popcount(mask) * UNIT;
        if (sum + sum / 16 > (uint64_t)elements * noise)
            m->raw += noise;
        else
            m->shift[m->fields++] = l->field[f].shift;
    }
    m->expected = elements ? (unsigned)(znn_model_cost(m, src, n) / elements) : 0;
    m->spread = n >= sample_size(dtype) ? unevenness_of(m, src, sample_size(dtype)) : 0;
}

void znn_model_flat(znn_probe_model *m, unsigned cost_of_byte)
{
    memset(m, 0, sizeof *m);
    m->dtype = ZNN_BYTES;
    m->raw = m->expected = cost_of_byte;
}

bool znn_model_fits(const znn_probe_model *m, const uint8_t *src)
{
    const unsigned size = znn_dtype_size(m->dtype);
    const size_t n = sample_size(m->dtype);
    const uint64_t elements = n / size;
    const uint64_t cost = znn_model_cost(m, src, n), expected = m->expected * elements;
    const uint64_t allowed = elements * UNIT;
    if (cost > expected + allowed || cost + allowed < expected)
        return false;
    if (size == 1) {
        uint32_t by_position, all;
        unevenness(src, n, &by_position, &all);
        return by_position < all + all * 2 / 5 && all < m->spread * 3 && m->spread < all * 3;
    }
    if (size == 4) {
        uint32_t low = unevenness_of_low(src, n);
        return low < m->spread * 2 && m->spread < low * 2;
    }
    return true;
}
