#include "ring.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

struct ring {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    ring_buffer *buffers;
    size_t count;
    uint64_t filled, emptied; /* how many so far */
    bool ended, abandoned;
};

ring *ring_new(size_t count, size_t room)
{
    ring *r = allocate(sizeof *r);
    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->count = count;
    r->buffers = allocate(count * sizeof *r->buffers);
    for (size_t i = 0; i < count; i++)
        r->buffers[i] = (ring_buffer){.bytes = allocate(room)};
    return r;
}

void ring_free(ring *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->buffers[i].bytes);
    free(r->buffers);
    pthread_mutex_destroy(&r->mutex);
    pthread_cond_destroy(&r->changed);
    free(r);
}

ring_buffer *ring_to_fill(ring *r)
{
    pthread_mutex_lock(&r->mutex);
    while (!r->abandoned && r->filled - r->emptied == r->count)
        pthread_cond_wait(&r->changed, &r->mutex);
    ring_buffer *b = r->abandoned ? NULL : &r->buffers[r->filled % r->count];
    pthread_mutex_unlock(&r->mutex);
    return b;
}

ring_buffer *ring_to_empty(ring *r)
{
    pthread_mutex_lock(&r->mutex);
    while (!r->ended && r->filled == r->emptied)
        pthread_cond_wait(&r->changed, &r->mutex);
    ring_buffer *b = r->filled == r->emptied ? NULL : &r->buffers[r->emptied % r->count];
    pthread_mutex_unlock(&r->mutex);
    return b;
}

/* Only the two threads of the ring wait, and never at the same time. */
static void change(ring *r, uint64_t *number, bool *flag)
{
    pthread_mutex_lock(&r->mutex);
    if (number)
        ++*number;
    if (flag)
        *flag = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->mutex);
}

void ring_filled(ring *r)
{
    change(r, &r->filled, NULL);
}

void ring_emptied(ring *r)
{
    change(r, &r->emptied, NULL);
}

void ring_end(ring *r)
{
    change(r, NULL, &r->ended);
}

void ring_abandon(ring *r)
{
    change(r, NULL, &r->abandoned);
}
