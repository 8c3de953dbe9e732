#define _POSIX_C_SOURCE 200809L
#include "frame/line.h"

void znn_line_init(znn_line *l, const znn_line_steps *steps, void *argument, size_t slots)
{
    memset(l, 0, sizeof *l);
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->steps = steps;
    l->argument = argument;
    l->slots = slots;
}

void znn_line_destroy(znn_line *l)
{
    pthread_mutex_destroy(&l->mutex);
    pthread_cond_destroy(&l->changed);
}

void znn_line_clear(znn_line *l)
{
    l->first = l->next;
}

/* The three steps: the mutex is held on entry and on return, and not in between. */

static void put(znn_line *l)
{
    const size_t slot = l->first % l->slots;
    l->putting = true;
    pthread_mutex_unlock(&l->mutex);
    const bool ok = l->steps->put(l->argument, slot);
    pthread_mutex_lock(&l->mutex);
    l->putting = false;
    l->first += ok;
    l->stopped = !ok;
    pthread_cond_broadcast(&l->changed);
}

static void take_and_work(znn_line *l, unsigned worker)
{
    const size_t slot = l->next % l->slots;
    const bool alone = l->first == l->next;
    l->taking = true;
    pthread_mutex_unlock(&l->mutex);
    const bool ok = l->steps->take(l->argument, slot, alone);
    pthread_mutex_lock(&l->mutex);
    l->taking = false;
    l->none_left = !ok;
    l->worked[slot] = false;
    l->next += ok;
    pthread_cond_broadcast(&l->changed);
    if (!ok)
        return;
    pthread_mutex_unlock(&l->mutex);
    l->steps->work(l->argument, slot, worker);
    pthread_mutex_lock(&l->mutex);
    l->worked[slot] = true;
}

static void run(void *argument, size_t index, unsigned worker)
{
    (void)index;
    znn_line *l = argument;
    pthread_mutex_lock(&l->mutex);
    for (;;) {
        const bool over = l->none_left || l->stopped;
        if (l->first < l->next && l->worked[l->first % l->slots] && !l->putting && !l->stopped)
            put(l);
        else if (!over && !l->taking && l->next - l->first < l->slots)
            take_and_work(l, worker);
        else if (over)
            break; /* who works still will put what then can be */
        else
            pthread_cond_wait(&l->changed, &l->mutex);
    }
    pthread_mutex_unlock(&l->mutex);
}

void znn_line_run(znn_line *l, znn_pool *pool)
{
    l->none_left = l->stopped = false;
    znn_pool_run(pool, run, l, znn_pool_workers(pool));
}
