/* A few threads that run the same function over the indices of a batch. */
#ifndef ZNN_POOL_H
#define ZNN_POOL_H

#include "base/base.h"

typedef struct znn_pool znn_pool;
/* Called with the batch's argument, the item's index, and the worker's number. */
typedef void (*znn_pool_fn)(void *argument, size_t index, unsigned worker);

/* The number that `threads` of the caller's options means: 0 is one per core. */
unsigned znn_pool_size(int threads);

/* threads: as for znn_pool_size. The caller's thread is one of them, so 1 makes
 * none. NULL if memory or threads fail. */
znn_pool *znn_pool_new(int threads, const znn_allocator *allocator);
void znn_pool_free(znn_pool *pool);
unsigned znn_pool_workers(const znn_pool *pool);

/* Run fn for 0 .. count - 1; returns when all are done. */
void znn_pool_run(znn_pool *pool, znn_pool_fn fn, void *argument, size_t count);

#endif
