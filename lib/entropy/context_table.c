/* The context coder's tables: made from counts, written, read. */
#include "entropy/context.h"
#include "entropy/frequencies.h"

#define SLOTS 256
#define UNWRITTEN 128 /* frequency of an unwritten context's symbol, index 0; the escape has the rest */
/* What comes more rarely than one in so many is escaped: a slot of its own would take more from
 * the others than the list of escapes takes. */
#define ESCAPED_BELOW 300
#define PARTS_LEAST 64 /* elements for which an index's three bytes of table are worth it */

static void set_context(znn_context_table *t, unsigned context, unsigned low, unsigned n, const uint8_t *freq)
{
    unsigned start = 0;
    t->low[context] = (uint8_t)low;
    for (unsigned s = 0; s < ZNN_CONTEXT_ESCAPE; s++) {
        t->start[s][context] = (uint8_t)start;
        start += s < n ? freq[s] : 0;
    }
    t->start[ZNN_CONTEXT_ESCAPE][context] = (uint8_t)start;
}

static void set_parts(znn_context_table *t, unsigned index, const uint8_t freq[3])
{
    unsigned start = 0;
    for (unsigned s = 0; s < ZNN_CONTEXT_PARTS; s++) {
        t->part_start[s][index] = (uint8_t)start;
        start += s < 3 ? freq[s] : 0;
    }
}

void znn_context_table_clear(znn_context_table *t)
{
    memset(t, 0, sizeof *t);
    for (unsigned c = 0; c < ZNN_CONTEXTS; c++)
        set_context(t, c, 0, 1, (const uint8_t[]){UNWRITTEN});
    for (unsigned i = 0; i < ZNN_CONTEXT_INDICES; i++)
        set_parts(t, i, (const uint8_t[]){64, 64, 64});
}

static void build_context(znn_context_table *t, unsigned context, const uint32_t counts[ZNN_CONTEXT_INDICES])
{
    uint64_t total = 0;
    for (unsigned i = 0; i < ZNN_CONTEXT_INDICES; i++)
        total += counts[i];
    if (!total)
        return;
    /* The 15 neighbours that hold most. */
    uint64_t held = 0, most = 0;
    unsigned low = 0;
    for (unsigned i = 0; i < ZNN_CONTEXT_INDICES; i++) {
        held += counts[i];
        if (i >= ZNN_CONTEXT_ESCAPE)
            held -= counts[i - ZNN_CONTEXT_ESCAPE];
        if (held > most) {
            most = held;
            low = i >= ZNN_CONTEXT_ESCAPE ? i - ZNN_CONTEXT_ESCAPE + 1 : 0;
        }
    }
    /* Those of them that are worth it; one is, since 15 hold the most. */
    uint32_t kept[ZNN_CONTEXT_SYMBOLS], freq[ZNN_CONTEXT_SYMBOLS];
    unsigned of[ZNN_CONTEXT_SYMBOLS], n = 0;
    uint64_t rest = total;
    for (unsigned i = low; i < low + ZNN_CONTEXT_ESCAPE && i < ZNN_CONTEXT_INDICES; i++)
        if (counts[i] && (uint64_t)counts[i] * ESCAPED_BELOW >= total) {
            kept[n] = counts[i];
            rest -= counts[i];
            of[n++] = i;
        }
    if (!n)
        return;
    kept[n] = (uint32_t)rest;
    znn_frequencies_of(freq, kept, n + 1);
    uint8_t written[ZNN_CONTEXT_ESCAPE] = {0};
    for (unsigned k = 0; k < n; k++)
        written[of[k] - of[0]] = (uint8_t)freq[k];
    set_context(t, context, of[0], of[n - 1] - of[0] + 1, written);
    t->contexts |= UINT64_C(1) << context;
}

void znn_context_table_build(znn_context_table *t, uint32_t counts[ZNN_CONTEXTS][ZNN_CONTEXT_INDICES],
                             uint32_t parts[ZNN_CONTEXT_INDICES][ZNN_CONTEXT_PARTS])
{
    for (unsigned c = 0; c < ZNN_CONTEXTS; c++)
        build_context(t, c, counts[c]);
    for (unsigned i = 0; i < ZNN_CONTEXT_INDICES; i++) {
        if ((uint64_t)parts[i][0] + parts[i][1] + parts[i][2] + parts[i][3] < PARTS_LEAST)
            continue;
        uint32_t freq[ZNN_CONTEXT_PARTS];
        znn_frequencies_of(freq, parts[i], ZNN_CONTEXT_PARTS);
        set_parts(t, i, (const uint8_t[]){(uint8_t)freq[0], (uint8_t)freq[1], (uint8_t)freq[2]});
        t->indices |= UINT64_C(1) << i;
    }
}

size_t znn_context_table_write(const znn_context_table *t, uint8_t *dst)
{
    uint8_t *p = dst;
    *p++ = (uint8_t)t->origin;
    *p++ = (uint8_t)t->first;
    znn_store64(p, t->contexts);
    znn_store64(p + 8, t->indices);
    p += 16;
    for (unsigned c = 0; c < ZNN_CONTEXTS; c++) {
        if (!(t->contexts >> c & 1))
            continue;
        unsigned n = ZNN_CONTEXT_ESCAPE; /* symbols up to the last that has slots */
        while (n > 1 && t->start[n][c] == t->start[n - 1][c])
            n--;
        *p++ = t->low[c];
        *p++ = (uint8_t)n;
        for (unsigned s = 0; s < n; s++)
            *p++ = (uint8_t)(t->start[s + 1][c] - t->start[s][c]);
    }
    for (unsigned i = 0; i < ZNN_CONTEXT_INDICES; i++)
        for (unsigned s = 0; s < 3 && (t->indices >> i & 1); s++)
            *p++ = (uint8_t)(t->part_start[s + 1][i] - t->part_start[s][i]);
    return (size_t)(p - dst);
}

/* n frequencies of which the first is not 0 and that leave a slot. */
static bool frequencies_valid(const uint8_t *freq, unsigned n)
{
    unsigned sum = 0;
    for (unsigned s = 0; s < n; s++)
        sum += freq[s];
    return freq[0] > 0 && sum < SLOTS;
}

size_t znn_context_table_read(znn_context_table *t, const uint8_t *src, size_t size)
{
    if (size < 18)
        return 0;
    znn_context_table_clear(t);
    t->origin = src[0];
    t->first = src[1];
    t->contexts = znn_load64(src + 2);
    t->indices = znn_load64(src + 10);
    if (t->first >= ZNN_CONTEXT_INDICES)
        return 0;
    const uint8_t *p = src + 18, *end = src + size;
    for (unsigned c = 0; c < ZNN_CONTEXTS; c++) {
        if (!(t->contexts >> c & 1))
            continue;
        if (end - p < 2)
            return 0;
        const unsigned low = p[0], n = p[1];
        p += 2;
        if (n < 1 || n > ZNN_CONTEXT_ESCAPE || low + n > ZNN_CONTEXT_INDICES || end - p < (ptrdiff_t)n ||
            !frequencies_valid(p, n) || !p[n - 1])
            return 0;
        set_context(t, c, low, n, p);
        p += n;
    }
    for (unsigned i = 0; i < ZNN_CONTEXT_INDICES; i++) {
        if (!(t->indices >> i & 1))
            continue;
        if (end - p < 3 || !frequencies_valid(p, 3))
            return 0;
        set_parts(t, i, p);
        p += 3;
    }
    return (size_t)(p - src);
}
