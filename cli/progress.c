#include "progress.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "message.h"

#define FIRST_AFTER 1.0
#define INTERVAL 0.2

static struct {
    bool active, shown;
    char *name;
    uint64_t total;
    double begun, next;
} line;

/* Held while anything is written to stderr, and `line` is looked at: threads that read and write have messages too. */
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void progress_begin(const char *name, uint64_t total)
{
    progress_end();
    if (message_verbosity() < 0 || !isatty(STDERR_FILENO))
        return;
    line.active = true;
    line.name = printable(name);
    line.total = total;
    line.begun = seconds_now();
    line.next = line.begun + FIRST_AFTER;
}

static void show(uint64_t done, double now)
{
    line.shown = true;
    fprintf(stderr, "\r\033[K%s: %s", line.name, size_for_humans(done).text);
    if (line.total != UINT64_MAX && line.total >= done && line.total)
        fprintf(stderr, " of %s, %.0f %%", size_for_humans(line.total).text, 100.0 * (double)done / (double)line.total);
    fprintf(stderr, ", %.0f MB/s", (double)done / 1e6 / (now - line.begun));
    fflush(stderr);
}

void progress_update(uint64_t done)
{
    if (!line.active)
        return;
    double now = seconds_now();
    if (now < line.next)
        return;
    line.next = now + INTERVAL;
    pthread_mutex_lock(&writing);
    show(done, now);
    pthread_mutex_unlock(&writing);
}

void progress_hold(void)
{
    pthread_mutex_lock(&writing);
    if (line.shown)
        fputs("\r\033[K", stderr);
    line.shown = false;
}

void progress_release(void)
{
    pthread_mutex_unlock(&writing);
}

void progress_end(void)
{
    progress_hold();
    progress_release();
    free(line.name);
    line.name = NULL;
    line.active = false;
}
