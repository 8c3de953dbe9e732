/* The command line: the input is its words, each ended by a 0. */
#include "fuzz.h"

#include "message.h"
#include "options.h"

#define WORDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_alloc(size + 1);
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    /* Each word in memory of its own, so that a sanitizer sees what is read beyond. */
    char *words[WORDS_MAX + 2] = {strdup("znn")};
    int count = 1;
    for (size_t at = 0; at < size && count <= WORDS_MAX; at += strlen(text + at) + 1)
        words[count++] = strdup(text + at);
    message_set_verbosity(-9);
    cli_options options;
    if (options_parse(&options, count, words) && options.mode != MODE_HELP && options.mode != MODE_VERSION) {
        CHECK(options.files_count < (size_t)count);
        CHECK(options.codec.threads >= 0 && options.codec.threads <= 256);
        CHECK(options.codec.level >= 1 && options.codec.level <= 9);
        CHECK(!options.remove_source || !options.to_stdout);
    }
    options_free(&options);
    for (int i = 0; i < count; i++)
        free(words[i]);
    free(text);
    return 0;
}
