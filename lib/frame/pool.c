#define _POSIX_C_SOURCE 200809L
#include "frame/pool.h"

#include <pthread.h>
#include <unistd.h>

#define WORKERS_MAX 256

struct znn_pool {
    znn_allocator allocator;
    unsigned workers; /* the caller's thread is worker 0 */
    unsigned started;
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    znn_pool_fn fn;
    void *argument;
    size_t next, count, unfinished;
    bool quit;
    pthread_t threads[WORKERS_MAX];
};

/* Take items until none is left; the mutex is held on entry and on return. */
static void take_items(znn_pool *p, unsigned worker)
{
    while (p->next < p->count) {
        size_t index = p->next++;
        pthread_mutex_unlock(&p->mutex);
        p->fn(p->argument, index, worker);
        pthread_mutex_lock(&p->mutex);
        if (--p->unfinished == 0)
            pthread_cond_broadcast(&p->done);
    }
}

static void *worker_main(void *argument)
{
    znn_pool *p = argument;
    pthread_mutex_lock(&p->mutex);
    unsigned worker = ++p->started;
    while (!p->quit) {
        take_items(p, worker);
        if (!p->quit && p->next >= p->count)
            pthread_cond_wait(&p->work, &p->mutex);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

unsigned znn_pool_size(int threads)
{
    long n = threads ? threads : sysconf(_SC_NPROCESSORS_ONLN);
    return (unsigned)ZNN_MAX(ZNN_MIN(n, WORKERS_MAX), 1);
}

znn_pool *znn_pool_new(int threads, const znn_allocator *allocator)
{
    const unsigned wanted = znn_pool_size(threads);
    znn_pool *p = znn_alloc(allocator, sizeof *p);
    if (!p)
        return NULL;
    memset(p, 0, sizeof *p);
    p->allocator = *allocator;
    p->workers = 1;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    for (; p->workers < wanted; p->workers++)
        if (pthread_create(&p->threads[p->workers], NULL, worker_main, p) != 0) {
            znn_pool_free(p);
            return NULL;
        }
    return p;
}

void znn_pool_free(znn_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mutex);
    p->quit = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->mutex);
    for (unsigned i = 1; i < p->workers; i++)
        pthread_join(p->threads[i], NULL);
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    znn_dealloc(&p->allocator, p);
}

unsigned znn_pool_workers(const znn_pool *p)
{
    return p->workers;
}

void znn_pool_run(znn_pool *p, znn_pool_fn fn, void *argument, size_t count)
{
    if (p->workers == 1) {
        for (size_t i = 0; i < count; i++)
            fn(argument, i, 0);
        return;
    }
    pthread_mutex_lock(&p->mutex);
    p->fn = fn;
    p->argument = argument;
    p->next = 0;
    p->count = p->unfinished = count;
    pthread_cond_broadcast(&p->work);
    take_items(p, 0);
    while (p->unfinished)
        pthread_cond_wait(&p->done, &p->mutex);
    p->count = 0;
    pthread_mutex_unlock(&p->mutex);
}
