#include "json.h"

#include <stdio.h>
#include <stdlib.h>

#include "message.h"

json_t *json_name(const char *name)
{
    json_t *string = json_string(name);
    if (string)
        return string;
    char *copy = printable(name);
    for (unsigned char *c = (unsigned char *)copy; *c; c++)
        if (*c >= 0x80)
            *c = '?';
    string = json_string(copy);
    free(copy);
    return string;
}

void json_results_print(json_t *results, size_t files)
{
    json_t *shown = files == 1 ? json_array_get(results, 0) : results;
    if (!shown)
        return;
    json_dumpf(shown, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(7));
    putchar('\n');
}
