/* The files of a command line, with those of directories for -r. */
#ifndef CLI_TREE_H
#define CLI_TREE_H

#include "options.h"

typedef struct {
    char **names;
    size_t count, room;
    bool failed; /* some name could not be read, or was left out as an error */
} file_list;

/* Symbolic links are left out with a note, unless -f; so is, inside
 * directories, what the mode is not for. */
void tree_expand(file_list *list, const cli_options *options);
void tree_free(file_list *list);

#endif
