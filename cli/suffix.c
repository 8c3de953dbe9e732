#include "suffix.h"

#include <string.h>

bool has_suffix(const char *name, const char *suffix)
{
    const char *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name;
    const size_t size = strlen(base), suffix_size = strlen(suffix);
    return size > suffix_size && strcmp(base + size - suffix_size, suffix) == 0;
}
