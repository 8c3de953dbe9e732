#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "message.h"

#define WIDTH_MAX 72

double saved_percent(double content, double stored)
{
    return content > 0 ? 100 - 100 * stored / content : 0;
}

void table_file(const char *name, uint64_t content, uint64_t stored)
{
    char *clean = printable(name);
    printf("%s: %s => %s, %.1f %% saved\n", clean, size_for_humans(content).text, size_for_humans(stored).text,
           saved_percent((double)content, (double)stored));
    free(clean);
}

void table_titles(const char *first, int width, const char *second)
{
    printf("  %-*s  %-8s  %10s  %10s  %8s", width, first, second, "original", "stored", "saved");
}

void table_row(const char *first, int width, const char *second, uint64_t content, uint64_t stored)
{
    char *clean = printable(first), *clean_second = printable(second);
    printf("  %-*s  %-8s  %10s  %10s  %6.1f %%", width, clean, clean_second, size_for_humans(content).text,
           size_for_humans(stored).text, saved_percent((double)content, (double)stored));
    free(clean);
    free(clean_second);
}

int table_width(int width, const char *name)
{
    const size_t size = strlen(name) < WIDTH_MAX ? strlen(name) : WIDTH_MAX;
    return (int)size > width ? (int)size : width;
}

json_t *table_json(const char *title, const char *name, uint64_t content, uint64_t stored)
{
    return json_pack("{s:o, s:I, s:I, s:f}", title, json_name(name), "original_size", (json_int_t)content,
                     "stored_size", (json_int_t)stored, "saved_percent",
                     saved_percent((double)content, (double)stored));
}
