/*
 * Memory for the library that is kept from run to run: to have it mapped and unmapped each time takes ASan most of a
 * short run. What is freed and what is beyond a block is poisoned all the same. Without ASan it is malloc's, so that
 * valgrind sees each block.
 */
#ifndef ZNN_FUZZ_MEMORY_H
#define ZNN_FUZZ_MEMORY_H

#include "fuzz.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_KEEPS_MEMORY
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define FUZZ_KEEPS_MEMORY
#endif

#ifdef FUZZ_KEEPS_MEMORY
#include <pthread.h>
#include <sanitizer/asan_interface.h>

#define FUZZ_KEPT_LOG_MIN 12 /* below, ASan's own is quick */
#define FUZZ_KEPT_LOG_MAX 24
#define FUZZ_FILLED ((size_t)16 << 10)

typedef struct fuzz_block {
    struct fuzz_block *next;
    unsigned log; /* of the size after this head; 0: is not kept */
    _Alignas(16) uint8_t memory[];
} fuzz_block;

static pthread_mutex_t fuzz_lock = PTHREAD_MUTEX_INITIALIZER;
static fuzz_block *fuzz_kept[FUZZ_KEPT_LOG_MAX + 1];

static inline void *fuzz_kept_alloc(void *opaque, size_t size)
{
    static uint8_t filling;
    (void)opaque;
    unsigned log = FUZZ_KEPT_LOG_MIN;
    while (log <= FUZZ_KEPT_LOG_MAX && size > (size_t)1 << log)
        log++;
    if (size < (size_t)1 << FUZZ_KEPT_LOG_MIN || log > FUZZ_KEPT_LOG_MAX)
        log = 0;
    pthread_mutex_lock(&fuzz_lock);
    fuzz_block *block = log ? fuzz_kept[log] : NULL;
    if (block)
        fuzz_kept[log] = block->next;
    filling = (uint8_t)(filling + 85); /* 0, 85, 170, 255: nothing may depend on it */
    const uint8_t with = filling;
    pthread_mutex_unlock(&fuzz_lock);
    const size_t room = log ? (size_t)1 << log : size;
    if (!block)
        block = size <= SIZE_MAX - sizeof *block ? malloc(sizeof *block + room) : NULL;
    if (!block)
        return NULL;
    block->log = log;
    ASAN_UNPOISON_MEMORY_REGION(block->memory, room);
    memset(block->memory, with, size < FUZZ_FILLED ? size : FUZZ_FILLED);
    ASAN_POISON_MEMORY_REGION(block->memory + size, room - size);
    ASAN_POISON_MEMORY_REGION(block, sizeof *block);
    return block->memory;
}

static inline void fuzz_kept_free(void *opaque, void *address)
{
    (void)opaque;
    if (!address)
        return;
    fuzz_block *block = (fuzz_block *)((uint8_t *)address - offsetof(fuzz_block, memory));
    ASAN_UNPOISON_MEMORY_REGION(block, sizeof *block);
    if (!block->log) {
        free(block);
        return;
    }
    ASAN_POISON_MEMORY_REGION(block->memory, (size_t)1 << block->log);
    pthread_mutex_lock(&fuzz_lock);
    block->next = fuzz_kept[block->log]; /* the head is not poisoned now, or LeakSanitizer would not see the next */
    fuzz_kept[block->log] = block;
    pthread_mutex_unlock(&fuzz_lock);
}
#define FUZZ_ALLOC fuzz_kept_alloc
#define FUZZ_FREE fuzz_kept_free
#else
#define FUZZ_ALLOC NULL
#define FUZZ_FREE NULL
#endif

#endif
