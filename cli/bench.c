/*
 * Small files are repeated until the buffer is too large for the caches; each
 * copy is compressed as a frame of its own, so that the ratio is one file's.
 * All memory is touched before the clock runs. memcpy, compression and
 * decompression take turns, so that a machine that slows down slows all three.
 */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "json.h"
#include "message.h"
#include "progress.h"
#include "stream.h"

#define ROUNDS_MIN 5
#define ROUNDS_MAX 1000

typedef struct {
    unsigned char *src, *packed, *unpacked;
    uint64_t size, copies, total; /* of one copy; how many; all of them */
    uint64_t capacity;            /* of packed */
    uint64_t packed_size;         /* of one copy */
} workload;

enum { MEMCPY, COMPRESS, DECOMPRESS, WORKS };

typedef struct {
    double seconds[WORKS][ROUNDS_MAX];
    size_t rounds;
} timings;

static bool out_of_memory(const char *name)
{
    message_error(name, "not enough memory to measure it");
    return false;
}

/* The whole file in memory, of any kind. */
static bool load(const source_file *source, unsigned char **content, uint64_t *size)
{
    size_t room = source->size == UINT64_MAX ? (size_t)1 << 20 : (size_t)source->size + 1, used = 0;
    *content = source->size < SIZE_MAX || source->size == UINT64_MAX ? malloc(room) : NULL;
    for (;;) {
        if (!*content)
            return out_of_memory(source->name);
        ptrdiff_t n = read_full(source->fd, *content + used, room - used);
        if (n < 0) {
            message_error(source->name, "cannot read: %s", strerror(errno));
            return false;
        }
        used += (size_t)n;
        if (used < room)
            break;
        unsigned char *larger = room < SIZE_MAX / 2 ? realloc(*content, room *= 2) : NULL;
        if (!larger)
            return out_of_memory(source->name);
        *content = larger;
    }
    *size = used;
    return true;
}

static bool prepare(workload *w, const cli_options *o, const char *name)
{
    /* A copy of a tiny file may take thousands of times its size compressed, and has room for that. */
    uint64_t bound = znn_compress_bound(w->size);
    const uint64_t wanted = (o->bench_bytes + w->size - 1) / w->size, most = 2 * o->bench_bytes / bound;
    w->copies = wanted < most ? wanted : most;
    w->copies = w->copies ? w->copies : 1;
    w->total = w->copies * w->size;
    if (bound > SIZE_MAX / w->copies)
        return out_of_memory(name);
    w->capacity = bound * w->copies;
    unsigned char *src = realloc(w->src, (size_t)w->total);
    w->src = src ? src : w->src;
    w->packed = malloc((size_t)w->capacity);
    w->unpacked = malloc((size_t)w->total);
    if (!src || !w->packed || !w->unpacked)
        return out_of_memory(name);
    for (uint64_t i = 1; i < w->copies; i++)
        memcpy(w->src + i * w->size, w->src, (size_t)w->size);
    memset(w->packed, 1, (size_t)w->capacity);
    memset(w->unpacked, 1, (size_t)w->total);
    return true;
}

static znn_status compress_all(workload *w, const znn_options *options)
{
    unsigned char *dst = w->packed;
    for (uint64_t i = 0; i < w->copies; i++) {
        znn_status status = znn_compress(dst, w->capacity - (uint64_t)(dst - w->packed), &w->packed_size,
                                         w->src + i * w->size, w->size, options);
        if (status != ZNN_OK)
            return status;
        dst += w->packed_size;
    }
    return ZNN_OK;
}

static znn_status decompress_all(workload *w, const znn_options *options)
{
    uint64_t unpacked_size;
    znn_status status =
        znn_decompress(w->unpacked, w->total, &unpacked_size, w->packed, w->packed_size * w->copies, options);
    return status == ZNN_OK && unpacked_size != w->total ? ZNN_ERROR_FORMAT : status;
}

static znn_status work(int which, workload *w, const znn_options *options, double *seconds)
{
    znn_status status = ZNN_OK;
    double begun = seconds_now();
    switch (which) {
    case MEMCPY: memcpy(w->unpacked, w->src, (size_t)w->total); break;
    case COMPRESS: status = compress_all(w, options); break;
    default: status = decompress_all(w, options); break;
    }
    *seconds = seconds_now() - begun;
    return status;
}

static bool measure(timings *t, workload *w, const cli_options *o, const char *name)
{
    znn_status status = compress_all(w, &o->codec); /* the first run warms up, and is the one verified */
    if (status == ZNN_OK) {
        memset(w->unpacked, 0, (size_t)w->total);
        status = decompress_all(w, &o->codec);
    }
    if (status == ZNN_OK && memcmp(w->unpacked, w->src, (size_t)w->total) != 0)
        status = ZNN_ERROR_CHECKSUM;
    double begun = seconds_now();
    for (t->rounds = 0; status == ZNN_OK && t->rounds < ROUNDS_MAX &&
                        (t->rounds < ROUNDS_MIN || seconds_now() - begun < o->bench_seconds);
         t->rounds++)
        for (int i = 0; i < WORKS && status == ZNN_OK; i++)
            status = work(i, w, &o->codec, &t->seconds[i][t->rounds]);
    if (status != ZNN_OK)
        message_error(name, "%s", message_of(status));
    return status == ZNN_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double mb_a_second(timings *t, int which, uint64_t bytes)
{
    double *seconds = t->seconds[which];
    qsort(seconds, t->rounds, sizeof *seconds, by_value);
    double median = (seconds[(t->rounds - 1) / 2] + seconds[t->rounds / 2]) / 2;
    return median > 0 ? (double)bytes / 1e6 / median : 0;
}

static void report(const cli_options *o, const char *name, const workload *w, timings *t, json_t *results)
{
    double ratio = 100.0 * (double)w->packed_size / (double)w->size;
    double speed[WORKS];
    for (int i = 0; i < WORKS; i++)
        speed[i] = mb_a_second(t, i, w->total);
    if (o->json) {
        json_array_append_new(
            results, json_pack("{s:o, s:s, s:i, s:i, s:s, s:I, s:I, s:f, s:I, s:i, s:f, s:f, s:f}", "file",
                               json_name(name), "dtype", znn_dtype_name(o->codec.dtype), "level", o->codec.level,
                               "threads", o->codec.threads, "isa", znn_isa(), "original_size", (json_int_t)w->size,
                               "compressed_size", (json_int_t)w->packed_size, "ratio_percent", ratio, "buffer_size",
                               (json_int_t)w->total, "rounds", (int)t->rounds, "compress_mb_s", speed[COMPRESS],
                               "decompress_mb_s", speed[DECOMPRESS], "memcpy_mb_s", speed[MEMCPY]));
        return;
    }
    char *clean = printable(name);
    printf("%s: %s, dtype %s, level %d, ", clean, size_for_humans(w->size).text, znn_dtype_name(o->codec.dtype),
           o->codec.level);
    free(clean);
    if (o->codec.threads)
        printf("%d thread%s, %s\n", o->codec.threads, o->codec.threads == 1 ? "" : "s", znn_isa());
    else
        printf("all cores, %s\n", znn_isa());
    printf("  compressed  %9.2f %%     (%s, %.2f %% saved)\n", ratio, size_for_humans(w->packed_size).text,
           100 - ratio);
    printf("  compress    %9.0f MB/s\n  decompress  %9.0f MB/s\n", speed[COMPRESS], speed[DECOMPRESS]);
    printf("  memcpy      %9.0f MB/s  (one core; medians of %zu rounds over %s)\n", speed[MEMCPY], t->rounds,
           size_for_humans(w->total).text);
}

static bool bench_one(const cli_options *o, const char *name, json_t *results)
{
    source_file source;
    if (!source_open(&source, name, o))
        return false;
    workload w = {0};
    timings *t = allocate(sizeof *t);
    bool ok = load(&source, &w.src, &w.size);
    if (ok && w.size == 0) {
        message_error(source.name, "is empty: there is nothing to measure");
        ok = false;
    }
    ok = ok && prepare(&w, o, source.name) && measure(t, &w, o, source.name);
    if (ok)
        report(o, source.name, &w, t, results);
    free(t);
    free(w.src);
    free(w.packed);
    free(w.unpacked);
    source_close(&source);
    return ok;
}

bool bench_files(const cli_options *o, char **names, size_t count)
{
    bool ok = true;
    json_t *results = json_array();
    for (size_t i = 0; i < count; i++)
        ok = bench_one(o, names[i], results) && ok;
    if (o->json)
        json_results_print(results, count);
    json_decref(results);
    return ok;
}
