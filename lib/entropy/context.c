#include "entropy/context.h"

#include "base/cpu.h"

#define LANES ZNN_CONTEXT_LANES
#define TILE ZNN_CONTEXT_TILE
#define LOW (1u << 16) /* states are this or more, and of 24 bits */
#define ESCAPED ZNN_CONTEXT_ESCAPED

/* ---- the model --------------------------------------------------------- */

/* A tile's records of `count` lanes from `lane` on; codes: each lane's group. */
static inline __attribute__((always_inline)) void record_lanes(uint16_t averages[LANES], unsigned origin,
                                                               uint16_t *records, unsigned lane, const unsigned count,
                                                               const uint8_t *const codes[4],
                                                               const uint8_t positions[64])
{
    uint32_t average[4];
    for (unsigned k = 0; k < count; k++)
        average[k] = averages[lane + k];
    for (unsigned step = 0; step < TILE; step++, records += LANES)
        for (unsigned k = 0; k < count; k++) {
            const unsigned index = codes[k][positions[step]] >> 2;
            records[lane + k] = (uint16_t)(znn_context_of(average[k], origin) * ZNN_CONTEXT_INDICES + index);
            average[k] = znn_context_average(average[k], index);
        }
    for (unsigned k = 0; k < count; k++)
        averages[lane + k] = (uint16_t)average[k];
}

static void record_tile(uint16_t averages[LANES], unsigned origin, uint16_t *records, const uint8_t *codes,
                        size_t groups, size_t tile, const uint8_t positions[64])
{
    for (unsigned l = 0; l < LANES;) {
        const uint8_t *at[4];
        unsigned count = 0;
        for (; count < 4; count++) {
            const size_t group = znn_context_first_group(groups, l + count) + tile;
            if (group >= znn_context_first_group(groups, l + count + 1))
                break;
            at[count] = codes + group * 64;
        }
        if (count == 4) {
            record_lanes(averages, origin, records, l, 4, at, positions);
            l += 4;
        } else if (count) {
            record_lanes(averages, origin, records, l, 1, at, positions);
            l++;
        } else {
            for (unsigned step = 0; step < TILE; step++)
                records[step * LANES + l] = ZNN_CONTEXT_NONE;
            l++;
        }
    }
}

/* How often each record comes. */
static void count_records(uint32_t counts[ZNN_CONTEXTS][ZNN_CONTEXT_INDICES], const uint16_t *records, size_t n,
                          size_t whole)
{
    /* Two, so that equal neighbours do not wait for each other. */
    uint32_t part[2][ZNN_CONTEXTS * ZNN_CONTEXT_INDICES];
    memset(part, 0, sizeof part);
    size_t i = 0;
    for (; i < whole; i += 2) {
        part[0][records[i]]++;
        part[1][records[i + 1]]++;
    }
    for (; i < n; i++)
        if (records[i] != ZNN_CONTEXT_NONE)
            part[0][records[i]]++;
    for (unsigned r = 0; r < ZNN_CONTEXTS * ZNN_CONTEXT_INDICES; r++)
        counts[r / ZNN_CONTEXT_INDICES][r % ZNN_CONTEXT_INDICES] = part[0][r] + part[1][r];
}

size_t znn_context_model(znn_context_table *t, uint16_t *records, const uint8_t *codes, size_t groups,
                         const uint8_t positions[64])
{
    /* Averages begin at the commonest index; contexts are the 32 indices that hold most. */
    uint32_t seen[4][256] = {0};
    for (size_t i = 0; i < groups * 64; i += 4)
        for (unsigned k = 0; k < 4; k++)
            seen[k][codes[i + k]]++;
    uint64_t held = 0, most = 0;
    uint32_t by_index[ZNN_CONTEXT_INDICES], parts[ZNN_CONTEXT_INDICES][ZNN_CONTEXT_PARTS];
    unsigned common = 0, origin = 0;
    for (unsigned i = 0; i < ZNN_CONTEXT_INDICES; i++) {
        by_index[i] = 0;
        for (unsigned k = 0; k < ZNN_CONTEXT_PARTS; k++) {
            const unsigned code = i << 2 | k;
            parts[i][k] = seen[0][code] + seen[1][code] + seen[2][code] + seen[3][code];
            by_index[i] += parts[i][k];
        }
        if (by_index[i] > by_index[common])
            common = i;
        held += by_index[i];
        if (i >= ZNN_CONTEXTS / 2)
            held -= by_index[i - ZNN_CONTEXTS / 2];
        if (held > most) {
            most = held;
            origin = i >= ZNN_CONTEXTS / 2 ? i - ZNN_CONTEXTS / 2 + 1 : 0;
        }
    }
    znn_context_table_clear(t);
    t->origin = 2 * origin;
    t->first = common;

    uint16_t averages[LANES];
    for (unsigned l = 0; l < LANES; l++)
        averages[l] = (uint16_t)(common << 10);
    const size_t tiles = (groups + LANES - 1) / LANES, whole = groups / LANES;
    size_t tile = 0;
#if ZNN_X86
    if (znn_cpu_isa() == ZNN_ISA_AVX512) {
        znn_context_record_tiles_avx512(averages, t->origin, records, codes, groups, whole, positions);
        tile = whole;
    }
#endif
    for (; tile < tiles; tile++)
        record_tile(averages, t->origin, records + tile * TILE * LANES, codes, groups, tile, positions);
    uint32_t counts[ZNN_CONTEXTS][ZNN_CONTEXT_INDICES];
    count_records(counts, records, tiles * TILE * LANES, whole * TILE * LANES);
    znn_context_table_build(t, counts, parts);
    return tiles * TILE;
}

/* ---- encoding ---------------------------------------------------------- */

/* A symbol's slots: start, frequency << 8. */
static inline uint32_t interval(unsigned start, unsigned end)
{
    return start | (end - start) << 8;
}

static void states_begin(uint32_t x[LANES], const uint8_t initial[2 * LANES])
{
    for (unsigned l = 0; l < LANES; l++)
        x[l] = LOW | znn_load16(initial + 2 * l);
}

static uint8_t *states_write(const uint32_t x[LANES], uint8_t *p)
{
    p -= ZNN_CONTEXT_STATES;
    for (unsigned l = 0; l < LANES; l++) {
        p[l] = (uint8_t)x[l];
        p[LANES + l] = (uint8_t)(x[l] >> 8);
        p[2 * LANES + l] = (uint8_t)(x[l] >> 16);
    }
    return p;
}

/* x / freq as a product: 2^32 / freq rounded up is exact for x of 24 bits. */
static void reciprocals_make(uint64_t reciprocals[256])
{
    reciprocals[0] = 0;
    for (unsigned f = 1; f < 256; f++)
        reciprocals[f] = ((UINT64_C(1) << 32) + f - 1) / f;
}

static inline void encode(uint32_t *state, uint32_t slots, const uint64_t reciprocals[256], uint8_t **p)
{
    const uint32_t freq = slots >> 8, start = slots & 255;
    uint32_t x = *state;
    const uint32_t leaves = x >= freq << 16;
    (*p)[-1] = (uint8_t)x;
    *p -= leaves;
    x >>= 8 * leaves;
    const uint32_t q = (uint32_t)(x * reciprocals[freq] >> 32);
    *state = (q << 8) + x - q * freq + start;
}

size_t znn_context_encode_indices(const znn_context_table *t, const uint16_t *records, size_t rows, size_t whole_rows,
                                  const uint8_t initial[2 * LANES], uint8_t *dst_end, uint8_t *escaped_end,
                                  size_t *escapes)
{
    uint32_t of[ZNN_CONTEXTS * ZNN_CONTEXT_INDICES]; /* by record; bit 16 is set for what is escaped */
    for (unsigned c = 0; c < ZNN_CONTEXTS; c++)
        for (unsigned i = 0; i < ZNN_CONTEXT_INDICES; i++) {
            const unsigned s = i - t->low[c];
            uint32_t slots = 0;
            if (i >= t->low[c] && s < ZNN_CONTEXT_ESCAPE)
                slots = interval(t->start[s][c], t->start[s + 1][c]);
            if (slots >> 8 == 0)
                slots = ESCAPED | interval(t->start[ZNN_CONTEXT_ESCAPE][c], 256);
            of[c * ZNN_CONTEXT_INDICES + i] = slots;
        }
    uint64_t reciprocals[256];
    reciprocals_make(reciprocals);
    uint32_t x[LANES];
    states_begin(x, initial);
    uint8_t *p = dst_end, *escaped = escaped_end;
    for (size_t row = rows; row-- > 0;) {
        const uint16_t *r = records + row * LANES;
#if ZNN_X86
        if (row < whole_rows && znn_cpu_isa() == ZNN_ISA_AVX512) {
            p = znn_context_encode_rows_avx512(of, records, row + 1, x, p, &escaped);
            break;
        }
#else
        (void)whole_rows;
#endif
        for (unsigned l = LANES; l-- > 0;) {
            if (__builtin_expect(r[l] == ZNN_CONTEXT_NONE, 0))
                continue;
            const uint32_t slots = of[r[l]];
            if (__builtin_expect(slots & ESCAPED, 0))
                *--escaped = (uint8_t)(r[l] % ZNN_CONTEXT_INDICES);
            encode(&x[l], slots & 0xffff, reciprocals, &p);
        }
    }
    *escapes = (size_t)(escaped_end - escaped);
    return (size_t)(dst_end - states_write(x, p));
}

size_t znn_context_encode_parts(const znn_context_table *t, const uint8_t *codes, size_t groups,
                                const uint8_t initial[2 * LANES], uint8_t *dst_end)
{
    uint32_t of[256];
    for (unsigned code = 0; code < 256; code++) {
        const unsigned i = code >> 2, part = code & 3;
        of[code] = interval(t->part_start[part][i], part < 3 ? t->part_start[part + 1][i] : 256);
    }
    uint64_t reciprocals[256];
    reciprocals_make(reciprocals);
    uint32_t x[LANES];
    states_begin(x, initial);
    uint8_t *p = dst_end;
    size_t i = groups * 64;
#if ZNN_X86
    const bool wide = znn_cpu_isa() == ZNN_ISA_AVX512;
#else
    const bool wide = false;
#endif
    for (const size_t stop = wide ? i / LANES * LANES : 0; i-- > stop;)
        encode(&x[i % LANES], of[codes[i]], reciprocals, &p);
#if ZNN_X86
    if (wide)
        p = znn_context_encode_part_rows_avx512(of, codes, groups * 64 / LANES, x, p);
#endif
    return (size_t)(dst_end - states_write(x, p));
}

/* ---- decoding ---------------------------------------------------------- */

static bool stream_begin(znn_context_stream *s, const uint8_t *src, size_t size)
{
    if (size < ZNN_CONTEXT_STATES)
        return false;
    memcpy(s->low, src, LANES);
    memcpy(s->middle, src + LANES, LANES);
    memcpy(s->high, src + 2 * LANES, LANES);
    s->next = src + ZNN_CONTEXT_STATES;
    s->end = src + size;
    return true;
}

/* All is read, and the states are those that an encoder begins with. */
static bool stream_end(const znn_context_stream *s, uint8_t initial[2 * LANES])
{
    bool right = s->next == s->end;
    for (unsigned l = 0; l < LANES; l++) {
        right = right && s->high[l] == 1;
        initial[2 * l] = s->low[l];
        initial[2 * l + 1] = s->middle[l];
    }
    return right;
}

static void states_load(uint32_t x[LANES], const znn_context_stream *s)
{
    for (unsigned l = 0; l < LANES; l++)
        x[l] = s->low[l] | (uint32_t)s->middle[l] << 8 | (uint32_t)s->high[l] << 16;
}

static void states_store(znn_context_stream *s, const uint32_t x[LANES])
{
    for (unsigned l = 0; l < LANES; l++) {
        s->low[l] = (uint8_t)x[l];
        s->middle[l] = (uint8_t)(x[l] >> 8);
        s->high[l] = (uint8_t)(x[l] >> 16);
    }
}

/* The state after the symbol of a slot; false if a refill is not there. */
static inline bool decode(uint32_t *state, uint32_t freq, uint32_t offset, const uint8_t **next, const uint8_t *end)
{
    const uint32_t x = freq * (*state >> 8) + offset;
    *state = x;
    if (x >= LOW)
        return true;
    if (*next == end)
        return false;
    *state = x << 8 | *(*next)++;
    return true;
}

/* symbol, frequency << 8, offset << 16 of every slot of one table */
static void slots_make(uint32_t slots[256], const uint8_t (*start)[64], unsigned table, unsigned symbols)
{
    for (unsigned s = 0; s < symbols; s++) {
        const unsigned begin = start[s][table], end = s + 1 < symbols ? start[s + 1][table] : 256;
        for (unsigned slot = begin; slot < end; slot++)
            slots[slot] = s | (end - begin) << 8 | (slot - begin) << 16;
    }
}

bool znn_context_decode_indices(const znn_context_table *t, uint8_t *codes, size_t groups, const uint8_t positions[64],
                                const uint8_t *src, size_t size, const uint8_t *escaped, size_t escapes,
                                uint8_t initial[2 * LANES], void *room)
{
    znn_context_stream s;
    if (!stream_begin(&s, src, size))
        return false;
    uint16_t averages[LANES];
    for (unsigned l = 0; l < LANES; l++)
        averages[l] = (uint16_t)(t->first << 10);
    const uint8_t *const escaped_end = escaped + escapes;
    size_t tile = 0;
#if ZNN_X86
    if (znn_cpu_isa() == ZNN_ISA_AVX512)
        tile = znn_context_tiles_avx512(t, &s, averages, codes, groups, groups / LANES, positions, &escaped,
                                        escaped_end);
    if (tile == SIZE_MAX)
        return false;
#endif
    uint32_t(*slots)[256] = room;
    for (unsigned c = 0; c < ZNN_CONTEXTS; c++)
        slots_make(slots[c], t->start, c, ZNN_CONTEXT_SYMBOLS);
    uint32_t x[LANES];
    states_load(x, &s);
    for (; tile * LANES < groups; tile++)
        for (unsigned step = 0; step < TILE; step++)
            for (unsigned l = 0; l < LANES; l++) {
                const size_t group = znn_context_first_group(groups, l) + tile;
                if (group >= znn_context_first_group(groups, l + 1))
                    continue;
                const unsigned context = znn_context_of(averages[l], t->origin);
                const uint32_t slot = slots[context][x[l] & 255];
                unsigned index = t->low[context] + (slot & 255);
                if ((slot & 255) == ZNN_CONTEXT_ESCAPE) {
                    if (escaped == escaped_end)
                        return false;
                    index = *escaped++ % ZNN_CONTEXT_INDICES;
                }
                if (!decode(&x[l], slot >> 8 & 255, slot >> 16, &s.next, s.end))
                    return false;
                averages[l] = (uint16_t)znn_context_average(averages[l], index);
                codes[group * 64 + positions[step]] = (uint8_t)index;
            }
    states_store(&s, x);
    return stream_end(&s, initial) && escaped == escaped_end;
}

bool znn_context_parts_begin(znn_context_stream *s, const uint8_t *src, size_t size)
{
    return stream_begin(s, src, size);
}

bool znn_context_parts_end(const znn_context_stream *s, uint8_t initial[2 * LANES])
{
    return stream_end(s, initial);
}

bool znn_context_decode_parts(const znn_context_table *t, znn_context_stream *s, uint8_t *codes, size_t count)
{
    size_t row = 0;
#if ZNN_X86
    if (znn_cpu_isa() == ZNN_ISA_AVX512)
        row = znn_context_part_rows_avx512(t, s, codes, count / LANES);
    if (row == SIZE_MAX)
        return false;
#endif
    if (row * LANES == count)
        return true;
    uint32_t x[LANES];
    states_load(x, s);
    for (size_t i = row * LANES; i < count; i++) {
        uint32_t *state = &x[i % LANES];
        const unsigned index = codes[i], slot = *state & 255;
        unsigned part = 0;
        while (part < 3 && slot >= t->part_start[part + 1][index])
            part++;
        const unsigned begin = t->part_start[part][index], end = part < 3 ? t->part_start[part + 1][index] : 256;
        if (!decode(state, end - begin, slot - begin, &s->next, s->end))
            return false;
        codes[i] = (uint8_t)(index << 2 | part);
    }
    states_store(s, x);
    return true;
}
