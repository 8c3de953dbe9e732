/* The znn command: reads its options, and gives each file to who handles it. */
#include "platform.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "files.h"
#include "help.h"
#include "list.h"
#include "message.h"
#include "options.h"
#include "output.h"
#include "tree.h"
#include "zipnn.h"

enum { EXIT_WELL = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static bool is_stdin(const char *name)
{
    return strcmp(name, "-") == 0;
}

/* What can only be refused once the terminals and the files are looked at. */
static bool usage_is_sound(const cli_options *o, const file_list *list)
{
    if (o->output && list->count > 1) {
        message_error(NULL, "-o takes one file at a time, and there are %zu", list->count);
        return false;
    }
    bool to_terminal = false;
    for (size_t i = 0; i < list->count; i++) {
        bool to_stdout = !o->output && (o->to_stdout || is_stdin(list->names[i]));
        bool compresses = o->mode == MODE_COMPRESS || o->mode == MODE_CONVERT;
        to_terminal = to_terminal || (to_stdout && compresses && !o->force && isatty(STDOUT_FILENO));
    }
    if (to_terminal)
        message_error(NULL, "compressed data is not written to a terminal; -f does it all the same");
    return !to_terminal;
}

static int run(const cli_options *o)
{
    file_list list;
    tree_expand(&list, o);
    int status = EXIT_USAGE;
    if (usage_is_sound(o, &list)) {
        output_guard_against_signals();
        bool ok = !list.failed;
        if (o->mode == MODE_LIST)
            ok = list_files(o, list.names, list.count) && ok;
        else if (o->mode == MODE_BENCHMARK)
            ok = bench_files(o, list.names, list.count) && ok;
        else
            for (size_t i = 0; i < list.count; i++)
                ok = file_process(o, list.names[i]) && ok;
        status = ok ? EXIT_WELL : EXIT_FAILED;
    }
    tree_free(&list);
    return status;
}

int main(int argc, char **argv)
{
    cli_options o;
    int status = EXIT_USAGE;
    if (options_parse(&o, argc, argv)) {
        message_set_limit(o.codec.memory_limit);
        if (o.mode == MODE_HELP || o.mode == MODE_VERSION) {
            (o.mode == MODE_HELP ? help_print : version_print)();
            status = EXIT_WELL;
        } else if (o.files_count == 0 && isatty(STDIN_FILENO)) {
            message_error(NULL, "which file? znn FILE compresses it, znn --help tells all");
        } else {
            if (o.files_count == 0)
                o.files[o.files_count++] = "-";
            status = !o.base || zipnn_map_base(&o) ? run(&o) : EXIT_FAILED;
        }
    }
    options_free(&o);
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_WELL) {
        message_error("standard output", errno ? "cannot write: %s" : "cannot write", strerror(errno));
        status = EXIT_FAILED;
    }
    return status;
}
