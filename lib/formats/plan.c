#include "formats/plan.h"

#include "formats/probe.h"
#include "formats/safetensors.h"

#define SMALL_TENSOR 65536 /* smaller ones share chunks with their neighbours */

struct znn_plan {
    znn_allocator allocator;
    znn_dtype dtype;
    size_t chunk_max;
    size_t wants;
    bool begun;
    uint64_t position;
    znn_safetensors_entry *entries;
    size_t count, entry;
    uint64_t segment_end; /* of the segment at hand, where entries say it */
    znn_dtype segment_dtype;
    znn_probe probe;
};

znn_plan *znn_plan_new(znn_dtype dtype, size_t chunk_max, const znn_allocator *allocator)
{
    znn_plan *plan = znn_alloc(allocator, sizeof *plan);
    if (!plan)
        return NULL;
    memset(plan, 0, sizeof *plan);
    plan->allocator = *allocator;
    plan->dtype = dtype;
    plan->chunk_max = chunk_max;
    plan->wants = 2 * chunk_max;
    znn_probe_begin(&plan->probe);
    return plan;
}

void znn_plan_free(znn_plan *plan)
{
    if (!plan)
        return;
    znn_dealloc(&plan->allocator, plan->entries);
    znn_dealloc(&plan->allocator, plan);
}

size_t znn_plan_wants(const znn_plan *plan)
{
    return plan->wants;
}

/* At the usual levels chunks have 128 Ki elements, or what 256 KiB or 512 KiB hold:
 * statistics drift from tensor to tensor (FP8 gains 0.4 points by chunks half as
 * long), and what each chunk costs in itself weighs more where less is saved. The
 * highest levels follow the drift by contexts. */
static size_t largest_piece(const znn_plan *plan, znn_dtype dtype)
{
    const size_t usual = (size_t)512 << 10;
    if (plan->chunk_max > usual)
        return plan->chunk_max;
    switch (dtype) {
    case ZNN_F8_E4M3:
    case ZNN_F8_E5M2: return ZNN_MIN(plan->chunk_max, usual / 4);
    case ZNN_F16:
    case ZNN_BF16: return plan->chunk_max;
    default: return ZNN_MIN(plan->chunk_max, usual / 2);
    }
}

/* How much of `rest` bytes to take, so that no small chunk is left over. */
static size_t cut(const znn_plan *plan, uint64_t rest, znn_dtype dtype)
{
    const size_t most = largest_piece(plan, dtype);
    if (rest <= most)
        return (size_t)rest;
    if (rest - most < most / 8)
        return (size_t)(rest / 2 + 63) & ~(size_t)63;
    return most;
}

/* Entries that one segment covers: a large tensor, or neighbouring small ones of one dtype. */
static void begin_segment(znn_plan *plan)
{
    const znn_safetensors_entry *e = plan->entries;
    uint64_t begin = plan->position;
    plan->segment_end = e[plan->entry].end;
    plan->segment_dtype = e[plan->entry].dtype;
    const unsigned element_size = znn_dtype_size(plan->segment_dtype);
    plan->entry++;
    if (plan->segment_end - begin >= SMALL_TENSOR)
        return;
    while (plan->entry < plan->count && e[plan->entry].dtype == plan->segment_dtype &&
           e[plan->entry].end - plan->segment_end < SMALL_TENSOR && e[plan->entry].end - begin <= plan->chunk_max &&
           (plan->segment_end - begin) % element_size == 0)
        plan->segment_end = e[plan->entry++].end;
}

static void next_of_entries(znn_plan *plan, size_t available, znn_piece *piece)
{
    piece->starts_segment = plan->position == plan->segment_end;
    if (piece->starts_segment && plan->entry < plan->count) {
        begin_segment(plan);
    } else if (piece->starts_segment) { /* behind the last tensor */
        plan->segment_end = UINT64_MAX;
        plan->segment_dtype = ZNN_BYTES;
    }
    piece->dtype = plan->segment_dtype;
    uint64_t rest = plan->segment_end - plan->position;
    if (rest > available && available < plan->wants) /* the stream ends before the tensor does */
        rest = available;
    piece->size = ZNN_MIN(cut(plan, rest, piece->dtype), available);
}

/* Whether this is a safetensors file; false if more must be seen first. */
static znn_status begin(znn_plan *plan, const uint8_t *src, size_t available, bool at_end, bool *ready)
{
    size_t header = plan->dtype == ZNN_AUTO ? znn_safetensors_header_size(src, available) : 0;
    *ready = header <= available || at_end;
    if (!*ready) {
        plan->wants = header;
        return ZNN_OK;
    }
    plan->begun = true;
    plan->wants = 2 * plan->chunk_max;
    if (!header || header > available)
        return ZNN_OK;
    znn_status status = znn_safetensors_parse(src, header, &plan->allocator, &plan->entries, &plan->count);
    return status == ZNN_ERROR_FORMAT ? ZNN_OK : status;
}

znn_status znn_plan_next(znn_plan *plan, const uint8_t *src, size_t available, bool at_end, znn_piece *piece)
{
    *piece = (znn_piece){0, ZNN_BYTES, false};
    if (available == 0 || (available < plan->wants && !at_end))
        return ZNN_ERROR_ARGUMENT;
    if (!plan->begun) {
        bool ready;
        znn_status status = begin(plan, src, available, at_end, &ready);
        if (status != ZNN_OK || !ready)
            return status;
    }
    /* From here on only what any caller shows: the end is known to be the end
     * where less than what is wanted is there, not from at_end. */
    available = ZNN_MIN(available, plan->wants);
    const bool ends = available < plan->wants;
    if (plan->entries) {
        next_of_entries(plan, available, piece);
    } else if (plan->dtype != ZNN_AUTO) {
        piece->dtype = plan->dtype;
        piece->starts_segment = plan->position == 0;
        piece->size = ends ? cut(plan, available, piece->dtype) : largest_piece(plan, piece->dtype);
    } else {
        size_t region = znn_probe_region(&plan->probe, src, available, ends);
        piece->dtype = znn_probe_dtype(&plan->probe);
        piece->starts_segment = plan->probe.starts_segment;
        piece->size = region < available || ends ? cut(plan, region, piece->dtype)
                                                  : largest_piece(plan, piece->dtype);
        znn_probe_advance(&plan->probe, piece->size);
    }
    plan->position += piece->size;
    return ZNN_OK;
}
