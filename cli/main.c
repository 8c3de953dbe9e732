/* Options, by hand as zstd's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const char help[] =
    "znn: lossless compression for the weights of neural networks\n"
    "\n"
    "Usage: znn [OPTIONS] [FILE...]        FILE becomes FILE.znn, and is kept\n"
    "       znn -d [OPTIONS] [FILE.znn...] and back\n"
    "\n"
    "With no FILE, or where FILE is -, stdin is read and stdout written.\n"
    "\n"
    "What to do:\n"
    "  (nothing)          compress\n"
    "  -d, --decompress   decompress\n"
    "  -t, --test         check that files are whole, write nothing\n"
    "  -l, --list         what is inside: by dtype and by tensor, what was saved, and how\n"
    "  -b, --bench        compress and decompress in memory, and report the speed\n"
    "\n"
    "Files:\n"
    "  -o FILE            write to FILE\n"
    "  -c, --stdout       write to stdout\n"
    "  -k, --keep         keep the source (the default)\n"
    "  --rm               remove the source, once the result is verified and on disk\n"
    "  -f, --force        overwrite; follow links; read devices; write to a terminal\n"
    "  -r, --recursive    the files of folders\n"
    "\n"
    "How:\n"
    "  -1 ... -9          level: 1 fastest, 3 the default, 9 strongest\n"
    "  -T N, --threads=N  worker threads; 0: one per core; default 1\n"
    "  --dtype=NAME       bf16, f16, f32, f64, f8_e4m3, f8_e5m2, i8 ... u64, bool, bytes;\n"
    "                     the default, auto, reads safetensors' headers and probes other files\n"
    "  --no-check         no checksums\n"
    "\n"
    "  -q, -v             say less, say more\n"
    "  --json             -l and -b print JSON\n"
    "  -h, --help         this text\n"
    "  -V, --version      the version, and the instruction set in use\n"
    "\n"
    "Exit status: 0 well, 1 bad data or a file that cannot be read or written, 2 usage.\n"
    "\n"
    "Examples:\n"
    "  znn model.safetensors                  compress to model.safetensors.znn\n"
    "  znn -d model.safetensors.znn           and back\n"
    "  znn -T0 --rm -r checkpoints/           a folder, with all cores, sources removed\n"
    "  znn -l model.safetensors.znn           where the bytes are\n"
    "  tar c model/ | znn -c > model.tar.znn  in a pipe\n";

static int usage(const char *message, const char *what)
{
    fprintf(stderr, "znn: %s%s%s (znn --help explains)\n", message, *what ? ": " : "", what);
    return EXIT_USAGE;
}

static bool parse_number(const char *text, int low, int high, int *value)
{
    char *end;
    long v = strtol(text, &end, 10);
    if (end == text || *end || v < low || v > high)
        return false;
    *value = (int)v;
    return true;
}

/* The value of --name=VALUE or --name VALUE, else NULL. */
static const char *long_value(const char *argument, const char *name, int *i, int argc, char **argv)
{
    size_t n = strlen(name);
    if (strncmp(argument, name, n) != 0)
        return NULL;
    if (argument[n] == '=')
        return argument + n + 1;
    if (argument[n] == 0)
        return ++*i < argc ? argv[*i] : "";
    return NULL;
}

static int parse_long(cli_options *o, const char *a, int *i, int argc, char **argv)
{
    const char *v;
    if (strcmp(a, "--decompress") == 0 || strcmp(a, "--uncompress") == 0)
        o->mode = MODE_DECOMPRESS;
    else if (strcmp(a, "--compress") == 0)
        o->mode = MODE_COMPRESS;
    else if (strcmp(a, "--test") == 0)
        o->mode = MODE_TEST;
    else if (strcmp(a, "--list") == 0)
        o->mode = MODE_LIST;
    else if (strcmp(a, "--bench") == 0)
        o->mode = MODE_BENCH;
    else if (strcmp(a, "--stdout") == 0)
        o->to_stdout = true;
    else if (strcmp(a, "--keep") == 0)
        o->remove_source = false;
    else if (strcmp(a, "--rm") == 0)
        o->remove_source = true;
    else if (strcmp(a, "--force") == 0)
        o->force = true;
    else if (strcmp(a, "--recursive") == 0)
        o->recursive = true;
    else if (strcmp(a, "--quiet") == 0)
        o->verbosity = 0;
    else if (strcmp(a, "--verbose") == 0)
        o->verbosity = 2;
    else if (strcmp(a, "--json") == 0)
        o->json = true;
    else if (strcmp(a, "--no-check") == 0)
        o->codec.checksum = 0;
    else if (strcmp(a, "--check") == 0)
        o->codec.checksum = 1;
    else if ((v = long_value(a, "--threads", i, argc, argv))) {
        if (!parse_number(v, 0, 256, &o->codec.threads))
            return usage("threads must be 0 to 256", v);
    } else if ((v = long_value(a, "--dtype", i, argc, argv))) {
        int dtype = znn_dtype_from_name(v);
        if (dtype < 0)
            return usage("unknown dtype", v);
        o->codec.dtype = (znn_dtype)dtype;
    } else if ((v = long_value(a, "--output", i, argc, argv))) {
        o->output = v;
    } else {
        return usage("unknown option", a);
    }
    return 0;
}

static int parse_short(cli_options *o, const char *a, int *i, int argc, char **argv)
{
    for (const char *c = a + 1; *c; c++) {
        switch (*c) {
        case 'd': o->mode = MODE_DECOMPRESS; break;
        case 'z': o->mode = MODE_COMPRESS; break;
        case 't': o->mode = MODE_TEST; break;
        case 'l': o->mode = MODE_LIST; break;
        case 'b': o->mode = MODE_BENCH; break;
        case 'c': o->to_stdout = true; break;
        case 'k': o->remove_source = false; break;
        case 'f': o->force = true; break;
        case 'r': o->recursive = true; break;
        case 'q': o->verbosity = 0; break;
        case 'v': o->verbosity = 2; break;
        case 'T':
        case 'o': {
            const char *v = c[1] ? c + 1 : ++*i < argc ? argv[*i] : "";
            if (*c == 'o' && !*v)
                return usage("-o wants a file", "");
            if (*c == 'o')
                o->output = v;
            else if (!parse_number(v, 0, 256, &o->codec.threads))
                return usage("-T wants 0 to 256", v);
            return 0;
        }
        default:
            if (*c < '1' || *c > '9')
                return usage("unknown option", a);
            o->codec.level = *c - '0';
            if (c[1] >= '0' && c[1] <= '9')
                return usage("levels are 1 to 9", a);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    cli_options o = {.mode = MODE_COMPRESS, .verbosity = 1};
    znn_options_init(&o.codec);
    o.inputs = calloc((size_t)argc + 1, sizeof *o.inputs);
    if (!o.inputs)
        return EXIT_DATA;
    bool only_files = false;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        int bad = 0;
        if (only_files || a[0] != '-' || !a[1]) {
            o.inputs[o.inputs_count++] = a;
        } else if (strcmp(a, "--") == 0) {
            only_files = true;
        } else if (strcmp(a, "-h") == 0 || strcmp(a, "--help") == 0) {
            fputs(help, stdout);
            return fflush(stdout) == 0 ? 0 : EXIT_DATA;
        } else if (strcmp(a, "-V") == 0 || strcmp(a, "--version") == 0) {
            printf("znn %s (%s)\n", znn_version(), znn_isa());
            return fflush(stdout) == 0 ? 0 : EXIT_DATA;
        } else {
            bad = a[1] == '-' ? parse_long(&o, a, &i, argc, argv) : parse_short(&o, a, &i, argc, argv);
        }
        if (bad)
            return bad;
    }
    if (o.inputs_count == 0) {
        if (o.mode == MODE_LIST || o.mode == MODE_BENCH)
            return usage("no file given", "");
        if (isatty(0) && !o.force)
            return usage("no file given, and stdin is a terminal", "");
        o.inputs[o.inputs_count++] = "-";
    }
    if (o.output && o.inputs_count > 1)
        return usage("-o takes one file", "");
    if (o.output && o.to_stdout)
        return usage("-o and -c exclude each other", "");
    if (o.output && strcmp(o.output, "-") == 0) {
        o.output = NULL;
        o.to_stdout = true;
    }
    cli_signals_init();
    int result = 0;
    for (int i = 0; i < o.inputs_count; i++)
        if ((o.mode == MODE_BENCH ? cli_bench : cli_process)(&o, o.inputs[i]) != 0)
            result = EXIT_DATA;
    if (fflush(stdout) != 0)
        result = EXIT_DATA;
    free(o.inputs);
    return result;
}
