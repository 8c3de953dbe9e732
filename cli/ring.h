/* Buffers that go round between who fills and who empties them, in order: two threads, or one by turns. */
#ifndef CLI_RING_H
#define CLI_RING_H

#include "platform.h"

typedef struct {
    unsigned char *bytes;
    size_t size; /* what is in it */
    bool failed; /* after a message: nothing follows */
} ring_buffer;

typedef struct ring ring;

/* `count` buffers of `room` bytes, allocated here, once. */
ring *ring_new(size_t count, size_t room);
void ring_free(ring *r);

/* The next buffer to fill or to empty; waits until there is one. NULL to stop: the other side did. */
ring_buffer *ring_to_fill(ring *r);
ring_buffer *ring_to_empty(ring *r);
/* That is done. */
void ring_filled(ring *r);
void ring_emptied(ring *r);

/* Nothing more will be filled: what is filled may still be emptied. */
void ring_end(ring *r);
/* Nothing more will be emptied. */
void ring_abandon(ring *r);

#endif
