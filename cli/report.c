/* Messages, sizes, progress. */
#define _POSIX_C_SOURCE 200809L
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

void cli_error(const char *path, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fflush(stdout);
    fprintf(stderr, "znn: %s: ", path);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}

const char *cli_size(char text[32], uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    unsigned u = 0;
    for (; v >= 999.5 && u < 5; u++)
        v /= 1000;
    snprintf(text, 32, u && v < 99.95 ? "%.1f %s" : "%.0f %s", v, units[u]);
    return text;
}

double cli_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void cli_progress_begin(cli_progress *p, const char *path, uint64_t total, int verbosity)
{
    *p = (cli_progress){.path = path, .total = total, .begun = cli_now(), .enabled = verbosity > 0 && isatty(2)};
    p->shown = p->begun + 0.8;
}

void cli_progress_update(cli_progress *p, uint64_t done)
{
    if (!p->enabled)
        return;
    double now = cli_now();
    if (now - p->shown < 0.2)
        return;
    p->shown = now;
    p->visible = true;
    char a[32], b[32], speed[32];
    cli_size(speed, (uint64_t)((double)done / (now - p->begun)));
    if (p->total)
        fprintf(stderr, "\r\033[K%s: %s of %s, %.0f %%, %s/s", p->path, cli_size(a, done), cli_size(b, p->total),
                100.0 * (double)done / (double)p->total, speed);
    else
        fprintf(stderr, "\r\033[K%s: %s, %s/s", p->path, cli_size(a, done), speed);
}

void cli_progress_end(cli_progress *p)
{
    if (p->visible)
        fputs("\r\033[K", stderr);
    p->visible = false;
}
