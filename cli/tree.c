#include "tree.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "message.h"
#include "suffix.h"

#define OPEN_FOLDERS_MAX 32

/* nftw hands nothing on to its callback. */
static file_list *walk_list;
static const cli_options *walk_options;

static bool is_wanted(const char *path)
{
    bool compressed = has_suffix(path, FRAMES_SUFFIX) || has_suffix(path, COMPRESSED_SAFETENSORS_SUFFIX);
    return walk_options->mode == MODE_BENCHMARK || compressed == (walk_options->mode != MODE_COMPRESS);
}

static void add(file_list *list, const char *name)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 16;
        char **names = allocate(room * sizeof *names);
        if (list->count)
            memcpy(names, list->names, list->count * sizeof *names);
        free(list->names);
        list->names = names;
        list->room = room;
    }
    size_t size = strlen(name) + 1;
    list->names[list->count++] = memcpy(allocate(size), name, size);
}

static int visit(const char *path, const struct stat *status, int type, struct FTW *position)
{
    (void)position;
    switch (type) {
    case FTW_F:
        /* -r compresses what is no frame by its name, and does the rest with what is. */
        if (S_ISREG(status->st_mode) && is_wanted(path))
            add(walk_list, path);
        break;
    case FTW_SL: message_warning(path, "is a symbolic link, ignored"); break;
    case FTW_DNR:
    case FTW_NS:
        message_error(path, "cannot read: %s", strerror(errno));
        walk_list->failed = true;
        break;
    default: break;
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void walk(file_list *list, const cli_options *options, const char *folder)
{
    size_t begin = list->count;
    walk_list = list;
    walk_options = options;
    if (nftw(folder, visit, OPEN_FOLDERS_MAX, options->force ? 0 : FTW_PHYS) != 0) {
        message_error(folder, "cannot read: %s", strerror(errno));
        list->failed = true;
    } else if (list->count == begin) {
        message_warning(folder, options->mode == MODE_COMPRESS ? "has no files to compress"
                                                               : "has no compressed files");
    }
    if (list->count > begin)
        qsort(list->names + begin, list->count - begin, sizeof *list->names, by_name);
}

void tree_expand(file_list *list, const cli_options *options)
{
    *list = (file_list){0};
    bool only_links = options->files_count > 0;
    for (size_t i = 0; i < options->files_count; i++) {
        const char *name = options->files[i];
        struct stat link, status;
        /* A name that cannot be looked at is reported when it is opened. */
        bool exists = strcmp(name, "-") != 0 && stat(name, &status) == 0;
        if (exists && !options->force && lstat(name, &link) == 0 && S_ISLNK(link.st_mode) &&
            (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) {
            message_warning(name, "is a symbolic link, ignored; -f follows it");
            continue;
        }
        only_links = false;
        if (exists && S_ISDIR(status.st_mode) && options->recursive)
            walk(list, options, name);
        else
            add(list, name);
    }
    if (only_links)
        list->failed = true;
}

void tree_free(file_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
}
