/* -l: what is in a file, by dtype, by method and, for safetensors, by tensor. */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

#define HEADER_MAX (64u << 20)
#define METHODS 7

typedef struct {
    uint64_t size, methods[METHODS];
    double stored; /* a chunk may be shared among tensors, by size */
} share;

typedef struct {
    const char *name, *dtype;
    uint64_t begin, end;
    share share;
} tensor;

static int read_file(void *opaque, uint64_t offset, void *dst, size_t size)
{
    uint8_t *p = dst;
    while (size) {
        ssize_t n = pread(*(int *)opaque, p, size, (off_t)offset);
        if (n <= 0)
            return 1;
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static void add(share *s, const znn_chunk_info *c, uint64_t bytes)
{
    s->size += bytes;
    s->stored += (double)c->stored_size * (double)bytes / (double)c->content_size;
    s->methods[c->method] += bytes;
}

static const char *main_method(const share *s)
{
    unsigned best = 0;
    for (unsigned i = 1; i < METHODS; i++)
        if (s->methods[i] > s->methods[best])
            best = i;
    return znn_method_name((znn_method)best);
}

static int by_begin(const void *a, const void *b)
{
    const tensor *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* The tensors of safetensors content, in order; *root owns the names. */
static tensor *find_tensors(znn_reader *reader, size_t *count, json_t **root)
{
    uint8_t length[8];
    uint64_t n = 0, size = znn_reader_size(reader);
    *count = 0;
    *root = NULL;
    if (size < 10 || znn_reader_read(reader, length, 0, 8) != ZNN_OK)
        return NULL;
    for (unsigned i = 0; i < 8; i++)
        n |= (uint64_t)length[i] << 8 * i;
    if (n < 2 || n > HEADER_MAX || n > size - 8)
        return NULL;
    char *text = malloc((size_t)n);
    if (text && znn_reader_read(reader, text, 8, n) == ZNN_OK && text[0] == '{')
        *root = json_loadb(text, (size_t)n, JSON_DISABLE_EOF_CHECK, NULL);
    free(text);
    if (!json_is_object(*root))
        return NULL;
    tensor *tensors = calloc(json_object_size(*root) + 1, sizeof *tensors);
    const char *name;
    json_t *value;
    json_object_foreach(*root, name, value)
    {
        json_t *offsets = json_object_get(value, "data_offsets");
        const char *dtype = json_string_value(json_object_get(value, "dtype"));
        json_int_t begin = json_integer_value(json_array_get(offsets, 0));
        json_int_t end = json_integer_value(json_array_get(offsets, 1));
        if (!tensors || !dtype || json_array_size(offsets) != 2 || begin < 0 || end < begin ||
            (uint64_t)end > size - 8 - n)
            continue;
        tensors[(*count)++] =
            (tensor){.name = name, .dtype = dtype, .begin = 8 + n + (uint64_t)begin, .end = 8 + n + (uint64_t)end};
    }
    if (*count)
        qsort(tensors, *count, sizeof *tensors, by_begin);
    return tensors;
}

static void print_share(const char *name, const char *dtype, const share *s)
{
    char a[32], b[32];
    printf("  %-44s %-8s %10s %10s %8.2f %%  %s\n", name, dtype, cli_size(a, s->size),
           cli_size(b, (uint64_t)s->stored), s->size ? 100 - 100 * s->stored / (double)s->size : 0, main_method(s));
}

static json_t *share_json(const char *name, const char *dtype, const share *s)
{
    json_t *j = json_pack("{s:s, s:I, s:I, s:s}", "dtype", dtype, "size", (json_int_t)s->size, "stored_size",
                          (json_int_t)(s->stored + 0.5), "method", main_method(s));
    if (name)
        json_object_set_new(j, "name", json_string(name));
    return j;
}

int cli_list(const cli_options *o, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        cli_error(path, "%s", fd < 0 ? strerror(errno) : "is not a regular file");
        if (fd >= 0)
            close(fd);
        return EXIT_DATA;
    }
    znn_reader *reader;
    znn_frame_info info;
    znn_status status = znn_reader_open_fn(&reader, read_file, &fd, (uint64_t)st.st_size, &o->codec);
    if (status == ZNN_OK && (status = znn_reader_info(reader, &info)) != ZNN_OK)
        znn_reader_free(reader);
    if (status != ZNN_OK) {
        cli_error(path, "%s", znn_status_message(status));
        close(fd);
        return EXIT_DATA;
    }
    size_t count;
    json_t *root;
    tensor *tensors = find_tensors(reader, &count, &root);
    share by_dtype[ZNN_DTYPE_COUNT] = {{0}}, total = {0};
    size_t from = 0; /* tensors before this one end before the chunk */
    for (uint64_t i = 0; i < info.chunks && status == ZNN_OK; i++) {
        znn_chunk_info c;
        if ((status = znn_reader_chunk(reader, i, &c)) != ZNN_OK)
            break;
        if ((unsigned)c.method >= METHODS) {
            status = ZNN_ERROR_UNSUPPORTED;
            break;
        }
        add(&by_dtype[c.dtype], &c, c.content_size);
        add(&total, &c, c.content_size);
        const uint64_t end = c.content_offset + c.content_size;
        while (from < count && tensors[from].end <= c.content_offset)
            from++;
        for (size_t k = from; k < count && tensors[k].begin < end; k++) {
            uint64_t low = tensors[k].begin > c.content_offset ? tensors[k].begin : c.content_offset;
            uint64_t high = tensors[k].end < end ? tensors[k].end : end;
            if (high > low)
                add(&tensors[k].share, &c, high - low);
        }
    }
    if (status != ZNN_OK) {
        cli_error(path, "%s", znn_status_message(status));
    } else if (o->json) {
        json_t *dtypes = json_array(), *list = json_array();
        for (int d = 0; d < ZNN_DTYPE_COUNT; d++)
            if (by_dtype[d].size)
                json_array_append_new(dtypes, share_json(NULL, znn_dtype_name((znn_dtype)d), &by_dtype[d]));
        for (size_t i = 0; i < count; i++)
            json_array_append_new(list, share_json(tensors[i].name, tensors[i].dtype, &tensors[i].share));
        json_t *j = json_pack("{s:s, s:I, s:I, s:f, s:I, s:I, s:I, s:b, s:o, s:o}", "file", path, "size",
                              (json_int_t)info.content_size, "stored_size", (json_int_t)info.stored_size,
                              "ratio_percent",
                              info.content_size ? 100.0 * (double)info.stored_size / (double)info.content_size : 0.0,
                              "frames", (json_int_t)info.frames, "segments", (json_int_t)info.segments, "chunks",
                              (json_int_t)info.chunks, "checksums", info.has_checksum, "dtypes", dtypes, "tensors",
                              list);
        json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(7));
        putchar('\n');
        json_decref(j);
    } else {
        char a[32], b[32];
        printf("%s: %s in %s (%.2f %% saved), %" PRIu64 " segments, %" PRIu64 " chunks, %s\n", path,
               cli_size(a, info.content_size), cli_size(b, info.stored_size),
               info.content_size ? 100 - 100.0 * (double)info.stored_size / (double)info.content_size : 0.0,
               info.segments, info.chunks, info.has_checksum ? "XXH3" : "no checksums");
        printf("  %-44s %-8s %10s %10s %10s  %s\n", "", "dtype", "size", "stored", "saved", "method");
        for (int d = 0; d < ZNN_DTYPE_COUNT; d++)
            if (by_dtype[d].size)
                print_share("all of", znn_dtype_name((znn_dtype)d), &by_dtype[d]);
        for (size_t i = 0; i < count; i++)
            print_share(tensors[i].name, tensors[i].dtype, &tensors[i].share);
    }
    free(tensors);
    json_decref(root);
    znn_reader_free(reader);
    close(fd);
    return status == ZNN_OK ? 0 : EXIT_DATA;
}
