/*
 * The whole command, in a folder of its own: options from a list, a file of any
 * bytes under names of several kinds. Whatever happens, the source's content is
 * there afterwards, and a run that failed has changed nothing.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int znn_main(int argc, char **argv); /* cli/main.c's */

static const char *const words[] = {"-d",       "-t",          "-l",         "-c",     "-k",        "--rm",
                                    "-f",       "-r",          "-v",         "-1",     "-9",        "-T2",
                                    "--json",   "-o",          "--dtype",    "f16",    "bf16",      "--safetensors",
                                    "--format", "zipnn",       "--convert",  "--base", "--no-check", "--check",
                                    "x",        "x.znn",       "x.safetensors", "x.znn.safetensors", "out", "-",
                                    "folder",   "--",          "--memory=1M", "-z",    "-bi0",      "--bench-size=0",
                                    "missing",  "link.znn"};
static const char *const names[] = {"x", "x.znn", "x.safetensors", "x.znn.safetensors"};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static void prepare_folder(void)
{
    static bool done;
    if (done)
        return;
    done = true;
    static char folder[] = "/tmp/znn-fuzz-XXXXXX";
    CHECK(mkdtemp(folder) && chdir(folder) == 0);
    /* Nothing may wait for a terminal, or write to it. */
    int null = open("/dev/null", O_RDWR);
    CHECK(null >= 0 && dup2(null, STDIN_FILENO) == 0 && dup2(null, STDOUT_FILENO) == 1);
}

/* The folder's files are few; what is left of a run goes. */
static void empty_folder(const char *path)
{
    DIR *folder = opendir(path);
    CHECK(folder);
    for (const struct dirent *entry; (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            char name[512];
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            if (unlink(name) != 0) {
                empty_folder(name);
                CHECK(rmdir(name) == 0);
            }
        }
    closedir(folder);
}

static unsigned files_in(const char *path)
{
    unsigned count = 0;
    DIR *folder = opendir(path);
    CHECK(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static bool is_content(const char *name, const fuzz_input *content)
{
    int fd = open(name, O_RDONLY);
    uint8_t *found = fuzz_alloc(content->size + 1);
    bool same = fd >= 0 && read(fd, found, content->size + 1) == (ssize_t)content->size &&
                (!content->size || memcmp(found, content->data, content->size) == 0);
    free(found);
    if (fd >= 0)
        close(fd);
    return same;
}

static int run(const char *const *words_used, size_t count)
{
    /* -b would else repeat a file of some bytes by the thousand. */
    char *arguments[16] = {strdup("znn"), strdup("-qq"), strdup("--bench-size=0")};
    for (size_t i = 0; i < count; i++)
        arguments[3 + i] = strdup(words_used[i]);
    int status = znn_main(3 + (int)count, arguments);
    for (size_t i = 0; i < count + 3; i++)
        free(arguments[i]);
    CHECK(status == 0 || status == 1 || status == 2);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    prepare_folder();
    fuzz_input in = {data, size};
    const char *used[12];
    size_t count = fuzz_byte(&in) % COUNT(used);
    for (size_t i = 0; i < count; i++)
        used[i] = words[fuzz_byte(&in) % COUNT(words)];
    const char *name = names[fuzz_byte(&in) % COUNT(names)];

    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0 && write(fd, in.data, in.size) == (ssize_t)in.size && close(fd) == 0);
    CHECK(symlink(name, "link.znn") == 0 && mkdir("folder", 0755) == 0);
    unsigned before = files_in(".");
    int status = run(used, count);
    bool kept = is_content(name, &in);
    bool rm = false, force = false, output = false, only_files = false;
    unsigned sources = 0;
    for (size_t i = 0; i < count; i++) {
        rm = rm || strcmp(used[i], "--rm") == 0;
        force = force || strcmp(used[i], "-f") == 0;
        output = output || strcmp(used[i], "-o") == 0;
        sources += only_files || used[i][0] != '-';
        only_files = only_files || strcmp(used[i], "--") == 0;
    }
    /* Only what the user allowed removes or replaces the source. */
    CHECK(kept || rm || force);
    if (status != 0 && sources <= 1)
        CHECK(kept && files_in(".") == before);
    /* A source that is gone comes back from what there is instead. */
    if (!kept && rm && !force && !output && status == 0 && sources == 1 && access(name, F_OK) != 0)
        CHECK(files_in(".") == before);
    empty_folder(".");
    return 0;
}
