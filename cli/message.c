#include "message.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "progress.h"

static int verbosity_now;
static char limit_met[96]; /* what message_of() says of it */

void message_set_verbosity(int verbosity)
{
    verbosity_now = verbosity;
}

int message_verbosity(void)
{
    return verbosity_now;
}

void message_set_limit(uint64_t bytes)
{
    snprintf(limit_met, sizeof limit_met, "needs more memory than the limit of %s a thread allows; --memory raises it",
             size_for_humans(bytes).text);
}

const char *message_of(znn_status status)
{
    return status == ZNN_ERROR_LIMIT ? limit_met : znn_status_message(status);
}

void *allocate(size_t size)
{
    void *address = malloc(size ? size : 1);
    if (!address) {
        message_error(NULL, "not enough memory");
        exit(1);
    }
    return address;
}

char *printable(const char *name)
{
    size_t size = strlen(name) + 1;
    char *copy = memcpy(allocate(size), name, size);
    for (unsigned char *c = (unsigned char *)copy; *c; c++)
        if (*c < 0x20 || *c == 0x7f)
            *c = '?';
    return copy;
}

static void say(const char *name, const char *format, va_list arguments)
{
    char *clean = name ? printable(name) : NULL;
    progress_hold();
    fputs("znn: ", stderr);
    if (clean)
        fprintf(stderr, "%s: ", clean);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    progress_release();
    free(clean);
}

void message_error(const char *name, const char *format, ...)
{
    if (verbosity_now < -1)
        return;
    va_list arguments;
    va_start(arguments, format);
    say(name, format, arguments);
    va_end(arguments);
}

void message_warning(const char *name, const char *format, ...)
{
    if (verbosity_now < 0)
        return;
    va_list arguments;
    va_start(arguments, format);
    say(name, format, arguments);
    va_end(arguments);
}

void message_done(const char *name, const char *format, ...)
{
    if (verbosity_now < (isatty(STDERR_FILENO) ? 0 : 1))
        return;
    va_list arguments;
    va_start(arguments, format);
    char *clean = printable(name);
    progress_hold();
    fprintf(stderr, "%s: ", clean);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    progress_release();
    free(clean);
    va_end(arguments);
}

size_text size_for_humans(uint64_t size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    size_text result;
    double value = (double)size;
    unsigned unit = 0;
    while (value >= 999.95 && unit < 6) {
        value /= 1000;
        unit++;
    }
    snprintf(result.text, sizeof result.text, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return result;
}
