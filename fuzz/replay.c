/* Instead of libFuzzer: each file named, and each in a folder named, once; without names, what comes on stdin. */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

static void replay(FILE *file)
{
    size_t size = 0, room = 1 << 20;
    uint8_t *data = fuzz_alloc(room);
    for (size_t n; (n = fread(data + size, 1, room - size, file)) > 0;) {
        size += n;
        if (size == room)
            CHECK(data = realloc(data, room *= 2));
    }
    uint8_t *exact = fuzz_alloc(size);
    memcpy(exact, data, size);
    free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static int replay_path(const char *path)
{
    struct stat status;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        int count = 0;
        DIR *folder = opendir(path);
        CHECK(folder);
        for (const struct dirent *entry; (entry = readdir(folder));) {
            char name[4096];
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            if (entry->d_name[0] != '.')
                count += replay_path(name);
        }
        closedir(folder);
        return count;
    }
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    replay(file);
    fclose(file);
    return 1;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++)
        count += argv[i][0] == '-' ? 0 : replay_path(argv[i]); /* libFuzzer's options are none of ours */
    if (argc == 1)
        replay(stdin);
    printf("%d inputs\n", count);
    return argc > 1 && count == 0;
}
