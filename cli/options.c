#include "options.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

#define THREADS_MAX 256

typedef struct {
    int argc;
    char **argv;
    int next; /* the argument after the one being read */
} arguments;

static bool parse_number(const char **text, uint64_t most, uint64_t *number)
{
    const char *c = *text;
    uint64_t value = 0;
    if (!isdigit((unsigned char)*c))
        return false;
    for (; isdigit((unsigned char)*c); c++) {
        value = value * 10 + (uint64_t)(*c - '0');
        if (value > most)
            return false;
    }
    *text = c;
    *number = value;
    return true;
}

static const char *next_argument(arguments *a, const char *option)
{
    if (a->next < a->argc)
        return a->argv[a->next++];
    message_error(NULL, "%s needs a value", option);
    return NULL;
}

static bool set_threads(cli_options *o, const char **text)
{
    uint64_t number;
    if (!parse_number(text, THREADS_MAX, &number)) {
        message_error(NULL, "-T takes a number of threads from 0 (all cores) to %d", THREADS_MAX);
        return false;
    }
    o->codec.threads = (int)number;
    return true;
}

static bool set_seconds(cli_options *o, const char **text)
{
    uint64_t number;
    if (!parse_number(text, 3600, &number)) {
        message_error(NULL, "-i takes a number of seconds");
        return false;
    }
    o->bench_seconds = (double)number;
    return true;
}

static bool set_bench_size(cli_options *o, const char **text)
{
    uint64_t number;
    if (!parse_number(text, SIZE_MAX / 4 / 1000000, &number)) {
        message_error(NULL, "--bench-size takes a number of megabytes");
        return false;
    }
    o->bench_bytes = number * 1000000;
    return true;
}

/* Bytes, or with K, M or G so many times 1024, 1024^2, 1024^3. */
static bool set_memory(cli_options *o, const char **text)
{
    static const char units[] = "KMG";
    uint64_t number;
    if (!parse_number(text, UINT64_MAX >> 31, &number)) {
        message_error(NULL, "--memory takes a size, such as 64M");
        return false;
    }
    const char *unit = **text ? strchr(units, toupper((unsigned char)**text)) : NULL;
    if (unit) {
        number <<= 10 * (unit - units + 1);
        ++*text;
    }
    o->codec.memory_limit = number;
    return true;
}

static bool set_dtype(cli_options *o, const char **text)
{
    int dtype = znn_dtype_from_name(*text);
    if (dtype < 0) {
        char *clean = printable(*text);
        message_error(NULL, "unknown dtype '%s'; known are:", clean);
        for (int i = 0; i < ZNN_DTYPE_COUNT; i++)
            message_error(NULL, "    %s", znn_dtype_name((znn_dtype)i));
        free(clean);
        return false;
    }
    o->codec.dtype = (znn_dtype)dtype;
    *text += strlen(*text);
    return true;
}

static bool set_level(cli_options *o, const char **text)
{
    uint64_t number;
    if (!parse_number(text, ZNN_LEVEL_MAX, &number) || number < ZNN_LEVEL_FAST) {
        message_error(NULL, "levels go from -%d to -%d", ZNN_LEVEL_FAST, ZNN_LEVEL_MAX);
        return false;
    }
    o->codec.level = (int)number;
    return true;
}

/* A whole value: what set() leaves of it is an error. */
static bool set_whole(cli_options *o, bool (*set)(cli_options *, const char **), const char *option, const char *value)
{
    const char *text = value;
    if (!value || !set(o, &text))
        return false;
    if (*text) {
        char *clean = printable(value);
        message_error(NULL, "%s does not take '%s'; znn --help tells all", option, clean);
        free(clean);
        return false;
    }
    return true;
}

/* One thing at a time: the last of several could only be guessed to be what was meant. */
static bool set_mode(cli_options *o, cli_mode mode, const char *option)
{
    if (o->mode_option && o->mode != mode) {
        message_error(NULL, "%s and %s exclude one another", o->mode_option, option);
        return false;
    }
    o->mode = mode;
    o->mode_option = option;
    return true;
}

/* The letters after one '-', such as "dkf", "T2" or "o" with its file next. */
static bool parse_letters(cli_options *o, arguments *a, const char *letters)
{
    while (*letters) {
        const char letter = *letters;
        if (isdigit((unsigned char)letter)) {
            if (!set_level(o, &letters))
                return false;
            continue;
        }
        letters++;
        bool ok = true;
        switch (letter) {
        case 'z': ok = set_mode(o, MODE_COMPRESS, "-z"); break;
        case 'd': ok = set_mode(o, MODE_DECOMPRESS, "-d"); break;
        case 't': ok = set_mode(o, MODE_TEST, "-t"); break;
        case 'l': ok = set_mode(o, MODE_LIST, "-l"); break;
        case 'b': ok = set_mode(o, MODE_BENCHMARK, "-b"); break;
        case 'h':
        case 'H': o->mode = MODE_HELP; return true;
        case 'V': o->mode = MODE_VERSION; return true;
        case 'c': o->to_stdout = true; break;
        case 'f': o->force = true; break;
        case 'k': o->remove_source = false; break;
        case 'r': o->recursive = true; break;
        case 'q': o->verbosity--; break;
        case 'v': o->verbosity++; break;
        case 'o':
            o->output = *letters ? letters : next_argument(a, "-o");
            if (!o->output)
                return false;
            return true;
        case 'T':
            if (!*letters)
                return set_whole(o, set_threads, "-T", next_argument(a, "-T"));
            ok = set_threads(o, &letters);
            break;
        case 'i':
            if (!*letters)
                return set_whole(o, set_seconds, "-i", next_argument(a, "-i"));
            ok = set_seconds(o, &letters);
            break;
        default:
            message_error(NULL, "unknown option -%c; znn --help tells all",
                          isprint((unsigned char)letter) ? letter : '?');
            return false;
        }
        if (!ok)
            return false;
    }
    return true;
}

static bool set_output(cli_options *o, const char **text)
{
    o->output = *text;
    *text += strlen(*text);
    return true;
}

static bool set_format(cli_options *o, const char **text)
{
    if (strcmp(*text, "zipnn") != 0 && strcmp(*text, "znn") != 0) {
        message_error(NULL, "--format takes znn or zipnn");
        return false;
    }
    o->to_zipnn = **text == 'z' && (*text)[1] == 'i';
    *text += strlen(*text);
    return true;
}

static bool set_base(cli_options *o, const char **text)
{
    o->base = *text;
    *text += strlen(*text);
    return true;
}

static bool parse_word(cli_options *o, arguments *a, const char *word)
{
    static const struct {
        const char *word;
        const char *letters;
    } synonyms[] = {
        {"--compress", "z"}, {"--decompress", "d"}, {"--uncompress", "d"}, {"--test", "t"},      {"--list", "l"},
        {"--stdout", "c"},   {"--keep", "k"},       {"--force", "f"},      {"--recursive", "r"}, {"--quiet", "q"},
        {"--verbose", "v"},  {"--benchmark", "b"},  {"--help", "h"},       {"--version", "V"},   {"--fast", "1"},
        {"--best", "9"},
    };
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++)
        if (strcmp(word, synonyms[i].word) == 0)
            return parse_letters(o, a, synonyms[i].letters);
    if (strcmp(word, "--rm") == 0) {
        o->remove_source = true;
        return true;
    }
    if (strcmp(word, "--convert") == 0)
        return set_mode(o, MODE_CONVERT, "--convert");
    if (strcmp(word, "--safetensors") == 0) {
        o->safetensors = true;
        return true;
    }
    if (strcmp(word, "--json") == 0) {
        o->json = true;
        return true;
    }
    if (strcmp(word, "--check") == 0 || strcmp(word, "--no-check") == 0) {
        o->codec.checksum = word[2] == 'c';
        return true;
    }

    static const struct {
        const char *word;
        bool (*set)(cli_options *, const char **);
    } valued[] = {{"--dtype", set_dtype},           {"--threads", set_threads}, {"--output", set_output},
                  {"--bench-size", set_bench_size}, {"--format", set_format},   {"--base", set_base},
                  {"--memory", set_memory},         {"--level", set_level}};
    for (size_t i = 0; i < sizeof valued / sizeof *valued; i++) {
        size_t size = strlen(valued[i].word);
        if (strncmp(word, valued[i].word, size) == 0 && (word[size] == '=' || !word[size])) {
            const char *value = word[size] ? word + size + 1 : next_argument(a, valued[i].word);
            return set_whole(o, valued[i].set, valued[i].word, value);
        }
    }
    char *clean = printable(word);
    message_error(NULL, "unknown option %s; znn --help tells all", clean);
    free(clean);
    return false;
}

static bool check_names(const cli_options *o)
{
    size_t stdins = 0;
    for (size_t i = 0; i < o->files_count; i++) {
        stdins += strcmp(o->files[i], "-") == 0;
        if (!*o->files[i]) {
            message_error(NULL, "a file's name is empty");
            return false;
        }
    }
    if (stdins > 1)
        message_error(NULL, "standard input can be read once, and - is there %zu times", stdins);
    return stdins <= 1;
}

static bool check(cli_options *o)
{
    bool makes_files = o->mode == MODE_COMPRESS || o->mode == MODE_DECOMPRESS || o->mode == MODE_CONVERT;
    if (o->output && (strcmp(o->output, "-") == 0 || strcmp(o->output, "/dev/stdout") == 0)) {
        o->output = NULL;
        o->to_stdout = true;
    }
    if (o->output && !*o->output) {
        message_error(NULL, "-o needs a file's name");
        return false;
    }
    if (o->output && o->to_stdout) {
        message_error(NULL, "-o and -c exclude one another");
        return false;
    }
    if (o->output && !makes_files) {
        message_error(NULL, "-o is for compressing, decompressing and converting");
        return false;
    }
    if (o->output && o->files_count > 1) {
        message_error(NULL, "-o takes one file at a time; for several, use -c or leave -o out");
        return false;
    }
    if (o->remove_source && (!makes_files || o->to_stdout)) {
        message_error(NULL, "--rm needs a result that is a file");
        return false;
    }
    if (o->json && o->mode != MODE_LIST && o->mode != MODE_BENCHMARK) {
        message_error(NULL, "--json goes with -l or -b");
        return false;
    }
    if (o->to_zipnn && o->mode != MODE_COMPRESS) {
        message_error(NULL, "--format is for compressing");
        return false;
    }
    if (o->base && o->mode != MODE_DECOMPRESS && o->mode != MODE_TEST && o->mode != MODE_CONVERT) {
        message_error(NULL, "--base goes with -d, -t and --convert, for ZipNN's deltas");
        return false;
    }
    if (o->safetensors && (o->mode == MODE_CONVERT || o->mode == MODE_BENCHMARK || o->to_zipnn || o->recursive)) {
        message_error(NULL, o->recursive ? "--safetensors takes files by their names, not with -r"
                                         : "--safetensors goes with compressing, -d, -t and -l");
        return false;
    }
    if (o->safetensors && o->mode == MODE_COMPRESS && o->to_stdout) {
        message_error(NULL, "--safetensors writes its result's begin last, which standard output does not allow");
        return false;
    }
    if (o->safetensors && o->codec.dtype != ZNN_AUTO) {
        message_error(NULL, "--dtype does not go with --safetensors: each tensor says its own");
        return false;
    }
    if (!o->codec.checksum && (o->remove_source || o->mode == MODE_TEST)) {
        message_error(NULL, "--no-check leaves nothing to verify: it cannot go with --rm or -t");
        return false;
    }
    return true;
}

bool options_parse(cli_options *o, int argc, char **argv)
{
    *o = (cli_options){.mode = MODE_COMPRESS, .bench_seconds = 2, .bench_bytes = 256 * 1000000};
    znn_options_init(&o->codec);
    o->files = allocate((size_t)(argc > 0 ? argc : 1) * sizeof *o->files);
    arguments a = {argc, argv, 1};
    bool only_files = false;
    while (a.next < argc) {
        const char *argument = argv[a.next++];
        bool ok = true;
        if (only_files || argument[0] != '-' || !argument[1])
            o->files[o->files_count++] = argument;
        else if (strcmp(argument, "--") == 0)
            only_files = true;
        else if (argument[1] == '-')
            ok = parse_word(o, &a, argument);
        else
            ok = parse_letters(o, &a, argument + 1);
        if (!ok)
            return false;
        if (o->mode == MODE_HELP || o->mode == MODE_VERSION)
            return true;
    }
    message_set_verbosity(o->verbosity);
    return check_names(o) && check(o);
}

void options_free(cli_options *o)
{
    free(o->files);
}
