#include "frame/workers.h"

/* Decoding holds up to six chunks a worker. Where they are larger than this
 * encoder makes them, fewer workers keep that to some 4 MiB a thread asked for. */
static int workers_for(int threads, size_t chunk_max)
{
    const unsigned asked = znn_pool_size(threads);
    const uint64_t budget = ((uint64_t)32 << 20) + ((uint64_t)asked << 22);
    return (int)ZNN_MAX(ZNN_MIN(asked, budget / (6 * (uint64_t)chunk_max)), 1);
}

bool znn_workers_init(znn_workers *w, int threads, size_t chunk_max, int for_encoding, const znn_allocator *allocator)
{
    memset(w, 0, sizeof *w);
    w->allocator = *allocator;
    w->pool = znn_pool_new(for_encoding ? threads : workers_for(threads, chunk_max), allocator);
    if (!w->pool)
        return false;
    w->count = znn_pool_workers(w->pool);
    w->coders = znn_alloc(allocator, w->count * sizeof *w->coders);
    bool ok = w->coders != NULL;
    for (unsigned i = 0; w->coders && i < w->count; i++) {
        w->coders[i] = ok ? znn_chunk_coder_new(chunk_max, for_encoding, allocator) : NULL;
        ok = ok && w->coders[i];
    }
    if (!ok)
        znn_workers_free(w);
    return ok;
}

void znn_workers_free(znn_workers *w)
{
    for (unsigned i = 0; w->coders && i < w->count; i++)
        znn_chunk_coder_free(w->coders[i]);
    znn_dealloc(&w->allocator, w->coders);
    znn_pool_free(w->pool);
    memset(w, 0, sizeof *w);
}
