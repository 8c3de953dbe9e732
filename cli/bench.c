/* -b: compress, decompress and memcpy over the same bytes in one run. */
#define _POSIX_C_SOURCE 200809L
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define CONTENT_MIN (256u << 20) /* far beyond the caches; a smaller file is repeated */
#define ROUNDS 5

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof *v, ascending);
    return v[ROUNDS / 2];
}

/* The file, whole, at the begin of a buffer that holds `repeats` of it. */
static uint8_t *load(const char *path, uint64_t *size, uint64_t *repeats)
{
    FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    uint8_t *data = NULL;
    size_t used = 0, room = 0;
    while (file) {
        if (used == room) {
            room = room ? 2 * room : 1u << 20;
            uint8_t *more = realloc(data, room);
            if (!more)
                break;
            data = more;
        }
        size_t n = fread(data + used, 1, room - used, file);
        used += n;
        if (n == 0)
            break;
    }
    bool ok = file && feof(file) && used;
    if (file && file != stdin)
        fclose(file);
    *size = used;
    *repeats = ok ? (CONTENT_MIN + used - 1) / used : 0;
    uint8_t *all = ok ? realloc(data, used * (size_t)*repeats) : NULL;
    if (!all) {
        free(data);
        return NULL;
    }
    for (uint64_t i = 1; i < *repeats; i++)
        memcpy(all + i * used, all, used);
    return all;
}

int cli_bench(const cli_options *o, const char *path)
{
    uint64_t size, repeats, stored = 0, restored = 0;
    uint8_t *content = load(path, &size, &repeats);
    if (!content) {
        cli_error(path, "cannot be read, or is empty");
        return EXIT_DATA;
    }
    const uint64_t all = size * repeats, bound = znn_compress_bound(all);
    uint8_t *frame = malloc((size_t)bound), *result = malloc((size_t)all);
    double compress[ROUNDS], decompress[ROUNDS], copy[ROUNDS];
    znn_status status = frame && result ? ZNN_OK : ZNN_ERROR_MEMORY;
    if (status == ZNN_OK) { /* touched, so that no page is made in the timed part */
        memset(frame, 1, (size_t)bound);
        memset(result, 1, (size_t)all);
    }
    for (int r = 0; r < ROUNDS && status == ZNN_OK; r++) {
        double t = cli_now();
        status = znn_compress(frame, bound, &stored, content, all, &o->codec);
        compress[r] = cli_now() - t;
        t = cli_now();
        memcpy(result, content, (size_t)all);
        copy[r] = cli_now() - t;
        memset(result, 0, 4096);
        t = cli_now();
        if (status == ZNN_OK)
            status = znn_decompress(result, all, &restored, frame, stored, &o->codec);
        decompress[r] = cli_now() - t;
    }
    int exit_status = EXIT_DATA;
    if (status != ZNN_OK) {
        cli_error(path, "%s", znn_status_message(status));
    } else if (restored != all || memcmp(result, content, (size_t)all) != 0) {
        cli_error(path, "what was decompressed is not what was compressed: a fault in znn");
    } else {
        const double mb = (double)all / 1e6, percent = 100.0 * (double)stored / (double)all;
        const double c = mb / median(compress), d = mb / median(decompress), m = mb / median(copy);
        exit_status = 0;
        if (o->json) {
            json_t *j = json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:i, s:i, s:s, s:s}", "file", path, "size",
                                  (json_int_t)size, "repeats", (json_int_t)repeats, "ratio_percent", percent,
                                  "compress_mb_s", c, "decompress_mb_s", d, "memcpy_mb_s", m, "level",
                                  o->codec.level, "threads", o->codec.threads, "dtype",
                                  znn_dtype_name(o->codec.dtype), "isa", znn_isa());
            if (!j || json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(7)) != 0)
                exit_status = EXIT_DATA;
            putchar('\n');
            json_decref(j);
        } else {
            printf("%s: %.2f %%, compress %.0f MB/s, decompress %.0f MB/s, memcpy %.0f MB/s (%s)\n", path, percent, c,
                   d, m, znn_isa());
        }
    }
    free(content);
    free(frame);
    free(result);
    return exit_status;
}
