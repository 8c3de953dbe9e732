/* A pool whose every worker has a chunk coder of its own. */
#ifndef ZNN_WORKERS_H
#define ZNN_WORKERS_H

#include "chunk/chunk.h"
#include "frame/pool.h"

typedef struct {
    znn_allocator allocator;
    znn_pool *pool;
    znn_chunk_coder **coders;
    unsigned count;
} znn_workers;

/* On failure everything is freed again. */
bool znn_workers_init(znn_workers *workers, int threads, size_t chunk_max, int for_encoding,
                      const znn_allocator *allocator);
void znn_workers_free(znn_workers *workers);

#endif
