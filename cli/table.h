/* The tables of -l. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "platform.h"

#include <jansson.h>

double saved_percent(double content, double stored); /* 0 of nothing */

/* "NAME: 90.9 MB => 74.2 MB, 18.3 % saved". */
void table_file(const char *name, uint64_t content, uint64_t stored);

/* A table's first line, and each of the others, without their ends: a caller may put a column more. */
void table_titles(const char *first, int width, const char *second);
void table_row(const char *first, int width, const char *second, uint64_t content, uint64_t stored);

/* For columns: no narrower than their title, no wider than a terminal bears. */
int table_width(int width, const char *name);

/* The same for programs: {TITLE: name, "original_size": ..., "stored_size": ..., "saved_percent": ...}. */
json_t *table_json(const char *title, const char *name, uint64_t content, uint64_t stored);

#endif
