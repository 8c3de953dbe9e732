/* Items through a pool, as on an assembly line: taken in order, worked on by all at once, put in order. */
#ifndef ZNN_LINE_H
#define ZNN_LINE_H

#include <pthread.h>

#include "frame/pool.h"

#define ZNN_LINE_SLOTS_MAX 512

typedef struct {
    /* Find the next item, for `slot`; false: there is none now. `alone`: all before it were put.
     * No two calls of take at the same time; nor of put, whose false says: not now, nothing more. */
    bool (*take)(void *argument, size_t slot, bool alone);
    void (*work)(void *argument, size_t slot, unsigned worker);
    bool (*put)(void *argument, size_t slot);
} znn_line_steps;

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    const znn_line_steps *steps;
    void *argument;
    size_t slots;
    size_t first, next; /* the items not put yet; item i is in slot i % slots */
    bool worked[ZNN_LINE_SLOTS_MAX];
    bool taking, putting;
    bool none_left, stopped; /* what take and put said last */
} znn_line;

void znn_line_init(znn_line *line, const znn_line_steps *steps, void *argument, size_t slots);
void znn_line_destroy(znn_line *line);

/* Put what is there, take and work and put what can be; returns when no more can be. What put did not take
 * waits, worked on, for the next call. */
void znn_line_run(znn_line *line, znn_pool *pool);

/* Forget what waits. */
void znn_line_clear(znn_line *line);

#endif
