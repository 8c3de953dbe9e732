/* What -l and -b share of JSON. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include "platform.h"

#include <jansson.h>

/* A string of a file's or a tensor's name, which need not be UTF-8. */
json_t *json_name(const char *name);

/* One file's result is an object, those of several are an array. */
void json_results_print(json_t *results, size_t files);

#endif
