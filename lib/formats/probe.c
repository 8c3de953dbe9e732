#include "formats/probe.h"

#include "formats/estimate.h"

#define LOOK ((size_t)8192)        /* bytes that a search looks at */
#define EVERY ((size_t)8192)       /* one sample in so many bytes */
#define STEP ((size_t)8)           /* a change is sought in steps of the largest element */
#define UNIT 256                   /* costs are in 1/256 bits */
#define NEW_DTYPE (300 * 8 * UNIT) /* what a new chunk must save, to pay for its headers and tables */
#define NEW_REGION (1024 * 8 * UNIT)
#define GAP_COST (64 * 8 * UNIT) /* of a chunk between two others */
#define SMALL_PREFIX 256         /* not worth a chunk if the phase allows it */

void znn_probe_begin(znn_probe *probe)
{
    memset(probe, 0, sizeof *probe);
}

znn_dtype znn_probe_dtype(const znn_probe *probe)
{
    return probe->model.dtype;
}

/* Where in src[0, size) coding with `before` should end and with `after` begin,
 * given that elements of `after` begin at phase. What lies between them and suits
 * neither, such as the header of the next tensor, may be left out: *gap bytes. */
static size_t find_change(const znn_probe_model *before, const znn_probe_model *after, unsigned phase,
                          const uint8_t *src, size_t size, size_t *gap)
{
    /* The cheapest way to have come here: still before, in the gap, or behind. */
    uint64_t cost_before = 0, cost_gap = GAP_COST, cost_after = 0;
    size_t gap_begin = 0, begin = 0, end = 0; /* the gap, if we were in it; and the one we left behind */
    for (size_t i = 0; i + 2 * STEP <= size; i += STEP) {
        cost_before += znn_model_cost(before, src + i, STEP);
        cost_gap += STEP * 8 * UNIT;
        cost_after += znn_model_cost(after, src + i + phase, STEP);
        if (cost_before + GAP_COST < cost_gap) {
            cost_gap = cost_before + GAP_COST;
            gap_begin = i + STEP;
        }
        if (cost_before < cost_after) {
            cost_after = cost_before;
            begin = end = i + STEP;
        }
        if (cost_gap < cost_after) {
            cost_after = cost_gap;
            begin = gap_begin;
            end = i + STEP;
        }
    }
    *gap = end > begin ? end + phase - begin : 0;
    return end > begin ? begin : begin + phase;
}

static void reach_boundary(znn_probe *probe)
{
    probe->starts_segment = probe->starts_segment || probe->next_starts_segment || probe->gap;
    if (probe->gap) {
        znn_model_flat(&probe->model, 8 * UNIT);
        probe->next_starts_segment = true;
        probe->boundary = probe->gap;
        probe->gap = 0;
        return;
    }
    probe->model = probe->next;
    probe->bounded = false;
    probe->samples = 0;
    probe->regret = 0;
}

/* The region at the begin of the content: a small header before it is cut off. */
static void begin_region(znn_probe *probe, const uint8_t *src, size_t size)
{
    znn_look look;
    size_t n = ZNN_MIN(size, LOOK);
    znn_look_at(&look, src, n);
    probe->begun = true;
    probe->starts_segment = true;
    znn_model_train(&probe->model, look.dtype, src + look.phase, n - look.phase);
    if (look.dtype == ZNN_BYTES)
        return;
    znn_probe_model flat;
    znn_model_flat(&flat, (probe->model.expected + UNIT / 2) / znn_dtype_size(look.dtype));
    size_t gap, change = find_change(&flat, &probe->model, look.phase, src, n, &gap);
    change += gap;
    if (change >= SMALL_PREFIX || look.phase) {
        probe->next = probe->model;
        znn_model_train(&probe->next, look.dtype, src + change, n - change);
        probe->next_starts_segment = true;
        probe->model = flat;
        probe->bounded = true;
        probe->boundary = change;
    }
}

/* What lies at src[at] may not be of the region: decide by a look. */
static void look_again(znn_probe *probe, const uint8_t *src, size_t at, size_t size)
{
    znn_look look;
    const size_t n = ZNN_MIN(size - at, LOOK);
    znn_look_at(&look, src + at, n);
    const znn_probe_model *old = &probe->model;
    const bool same = look.dtype == old->dtype && look.phase == 0;
    const uint64_t retrained = znn_look_cost(&look, old->dtype, 0);
    /* Bytes, integers and floats of one byte cost the same; two looks decide which they are. */
    if (!same && znn_dtype_size(look.dtype) == 1 && znn_dtype_size(old->dtype) == 1)
        look.cost = retrained - ZNN_MIN(retrained, NEW_DTYPE * 2 / 3);
    probe->regret = same || look.cost >= retrained ? 0 : probe->regret + (retrained - look.cost);
    /* The region ends where its own dtype, were it to go on, needs new statistics
     * so badly that a chunk of its own would pay; then any dtype may follow. */
    const bool new_region = n == LOOK && znn_model_cost(old, src + at, n) > retrained + NEW_REGION;
    const bool new_dtype = !same && (new_region ? look.cost < retrained : probe->regret > NEW_DTYPE);
    if (!new_dtype && (!new_region || znn_dtype_size(old->dtype) == 1)) {
        znn_model_train(&probe->model, old->dtype, src + at, n);
        return;
    }
    const znn_dtype dtype = new_dtype ? look.dtype : old->dtype;
    const unsigned phase = new_dtype ? look.phase : 0;
    znn_model_train(&probe->next, dtype, src + at + phase, n - phase);
    probe->next_starts_segment = new_dtype;
    /* Behind the last sample that fitted. `from` and `at` are multiples of STEP away from the begin. */
    const size_t from = at > EVERY ? at - EVERY : 0;
    probe->boundary = from + find_change(old, &probe->next, phase, src + from, at + n - from, &probe->gap);
    probe->bounded = true;
    if (probe->boundary == 0)
        reach_boundary(probe);
}

/* Looks that no sample asks for: often at first, since the first look saw little. */
static bool is_due(unsigned samples)
{
    return samples <= 32 ? (samples & (samples - 1)) == 0 : samples % 512 == 0;
}

size_t znn_probe_region(znn_probe *probe, const uint8_t *src, size_t size, bool ends)
{
    if (!probe->begun)
        begin_region(probe, src, size);
    /* A look must be whole, or the answer would depend on how much is shown. */
    for (; !probe->bounded && probe->good + (ends ? ZNN_SAMPLE_MAX : LOOK) <= size; probe->good += EVERY)
        if (is_due(++probe->samples) || !znn_model_fits(&probe->model, src + probe->good))
            look_again(probe, src, probe->good, size);
    return probe->bounded ? ZNN_MIN(probe->boundary, size) : size;
}

void znn_probe_advance(znn_probe *probe, size_t n)
{
    probe->starts_segment = false;
    probe->good = probe->good > n ? probe->good - n : 0;
    if (!probe->bounded)
        return;
    probe->boundary -= n;
    if (probe->boundary == 0) {
        reach_boundary(probe);
        probe->good = 0;
    }
}
