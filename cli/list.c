#include "list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "json.h"
#include "message.h"
#include "tensors.h"
#include "zipnn.h"

#define METHODS_MAX 16 /* more than znn_method has */

/* What chunks, or parts of them, come to. */
typedef struct {
    uint64_t content;
    double stored; /* a chunk that several tensors share counts for each by its part */
    uint64_t by_method[METHODS_MAX];
    uint64_t segments;
} sum;

typedef struct {
    const char *name;
    znn_reader *reader;
    znn_frame_info info;
    sum by_dtype[ZNN_DTYPE_COUNT];
    tensor_list tensors;
    sum *by_tensor;
} listing;

static void add(sum *s, const znn_chunk_info *chunk, uint64_t content)
{
    s->content += content;
    if (chunk->content_size)
        s->stored += (double)chunk->stored_size * (double)content / (double)chunk->content_size;
    if ((unsigned)chunk->method < METHODS_MAX)
        s->by_method[chunk->method] += content;
}

/* Chunks and tensors both come in the content's order. `next` is the first tensor not wholly before the chunk. */
static void add_to_tensors(listing *l, const znn_chunk_info *chunk, size_t *next)
{
    uint64_t begin = chunk->content_offset, end = begin + chunk->content_size;
    while (*next < l->tensors.count && l->tensors.items[*next].end <= begin)
        ++*next;
    for (size_t i = *next; i < l->tensors.count && l->tensors.items[i].begin < end; i++) {
        const tensor *t = &l->tensors.items[i];
        uint64_t from = t->begin > begin ? t->begin : begin, to = t->end < end ? t->end : end;
        if (from < to)
            add(&l->by_tensor[i], chunk, to - from);
    }
}

static bool gather(listing *l)
{
    znn_status status = znn_reader_info(l->reader, &l->info);
    l->tensors = tensors_read(l->reader);
    l->by_tensor = allocate((l->tensors.count + 1) * sizeof *l->by_tensor);
    memset(l->by_tensor, 0, (l->tensors.count + 1) * sizeof *l->by_tensor);
    size_t next = 0;
    for (uint64_t i = 0; status == ZNN_OK && i < l->info.chunks; i++) {
        znn_chunk_info chunk;
        status = znn_reader_chunk(l->reader, i, &chunk);
        if (status != ZNN_OK)
            break;
        if ((unsigned)chunk.dtype < ZNN_DTYPE_COUNT) {
            add(&l->by_dtype[chunk.dtype], &chunk, chunk.content_size);
            l->by_dtype[chunk.dtype].segments += chunk.starts_segment != 0;
        }
        add_to_tensors(l, &chunk, &next);
    }
    if (status != ZNN_OK)
        message_error(l->name, "%s", message_of(status));
    return status == ZNN_OK;
}

static double saved_percent(double content, double stored)
{
    return content > 0 ? 100 - 100 * stored / content : 0;
}

/* ---- For people ---- */

/* The methods that most of it went by, the largest first: "float", "float+stored". */
static void print_methods(const sum *s)
{
    uint64_t left[METHODS_MAX];
    memcpy(left, s->by_method, sizeof left);
    const char *separator = "";
    for (;;) {
        size_t largest = 0;
        for (size_t i = 1; i < METHODS_MAX; i++)
            if (left[i] > left[largest])
                largest = i;
        if (!left[largest])
            break;
        const char *name = znn_method_name((znn_method)largest);
        printf("%s%s", separator, name ? name : "?");
        left[largest] = 0;
        separator = "+";
    }
    putchar('\n');
}

static void print_sum(const char *name, int width, const char *second, const sum *s)
{
    char *clean = printable(name);
    printf("  %-*s  %-8s  %10s  %10s  %6.1f %%  ", width, clean, second, size_for_humans(s->content).text,
           size_for_humans((uint64_t)(s->stored + 0.5)).text, saved_percent((double)s->content, s->stored));
    print_methods(s);
    free(clean);
}

static void print_titles(const char *first, int width, const char *second)
{
    printf("  %-*s  %-8s  %10s  %10s  %8s  %s\n", width, first, second, "original", "stored", "saved", "method");
}

static void print_text(const listing *l)
{
    char *clean = printable(l->name);
    const znn_frame_info *i = &l->info;
    printf("%s: %s => %s, %.1f %% saved\n", clean, size_for_humans(i->content_size).text,
           size_for_humans(i->stored_size).text, saved_percent((double)i->content_size, (double)i->stored_size));
    free(clean);
    printf("  format %d, %llu frame%s, %llu chunk%s, %s checksum%s\n\n", i->version, (unsigned long long)i->frames,
           i->frames == 1 ? "" : "s", (unsigned long long)i->chunks, i->chunks == 1 ? "" : "s",
           i->has_checksum ? "XXH3" : "no", i->needs_base ? ", needs its base" : "");
    print_titles("dtype", 8, "segments");
    for (int dtype = 0; dtype < ZNN_DTYPE_COUNT; dtype++) {
        const sum *s = &l->by_dtype[dtype];
        char segments[24];
        snprintf(segments, sizeof segments, "%llu", (unsigned long long)s->segments);
        if (s->content)
            print_sum(znn_dtype_name((znn_dtype)dtype), 8, segments, s);
    }
    if (!l->tensors.count)
        return;
    size_t width = 6;
    for (size_t t = 0; t < l->tensors.count; t++) {
        size_t size = strlen(l->tensors.items[t].name);
        width = size > width ? size : width;
    }
    width = width > 72 ? 72 : width;
    putchar('\n');
    print_titles("tensor", (int)width, "dtype");
    for (size_t t = 0; t < l->tensors.count; t++) {
        char *dtype = printable(l->tensors.items[t].dtype);
        print_sum(l->tensors.items[t].name, (int)width, dtype, &l->by_tensor[t]);
        free(dtype);
    }
}

/* ---- For programs ---- */

static json_t *json_sum(const char *title, const char *name, const sum *s)
{
    json_t *methods = json_object();
    for (size_t i = 0; i < METHODS_MAX; i++)
        if (s->by_method[i]) {
            const char *method = znn_method_name((znn_method)i);
            json_object_set_new(methods, method ? method : "?", json_integer((json_int_t)s->by_method[i]));
        }
    return json_pack("{s:o, s:I, s:I, s:f, s:o}", title, json_name(name), "original_size", (json_int_t)s->content,
                     "stored_size", (json_int_t)(s->stored + 0.5), "saved_percent",
                     saved_percent((double)s->content, s->stored), "methods", methods);
}

static json_t *json_listing(const listing *l)
{
    const znn_frame_info *i = &l->info;
    json_t *dtypes = json_array(), *tensors = json_array();
    for (int dtype = 0; dtype < ZNN_DTYPE_COUNT; dtype++)
        if (l->by_dtype[dtype].content) {
            json_t *object = json_sum("dtype", znn_dtype_name((znn_dtype)dtype), &l->by_dtype[dtype]);
            json_object_set_new(object, "segments", json_integer((json_int_t)l->by_dtype[dtype].segments));
            json_array_append_new(dtypes, object);
        }
    for (size_t t = 0; t < l->tensors.count; t++) {
        json_t *object = json_sum("name", l->tensors.items[t].name, &l->by_tensor[t]);
        json_object_set_new(object, "dtype", json_name(l->tensors.items[t].dtype));
        json_array_append_new(tensors, object);
    }
    return json_pack("{s:o, s:i, s:I, s:I, s:I, s:I, s:f, s:b, s:b, s:o, s:o}", "file", json_name(l->name),
                     "format_version", i->version, "frames", (json_int_t)i->frames, "chunks", (json_int_t)i->chunks,
                     "original_size", (json_int_t)i->content_size, "stored_size", (json_int_t)i->stored_size,
                     "saved_percent", saved_percent((double)i->content_size, (double)i->stored_size), "checksum",
                     i->has_checksum, "needs_base", i->needs_base, "dtypes", dtypes, "tensors", tensors);
}

/* ---- Files ---- */

static bool list_one(const cli_options *o, const char *name, json_t *results)
{
    source_file source;
    if (!source_open(&source, name, o))
        return false;
    listing l = {.name = source.name};
    bool ok = false;
    if (S_ISREG(source.status.st_mode) && source.size != UINT64_MAX && !zipnn_recognise(&source, o)) {
        ok = false;
    } else if (source.zipnn) {
        ok = zipnn_list(&source, o->json, results);
        source_close(&source);
        return ok;
    } else if (!S_ISREG(source.status.st_mode)) {
        message_error(source.name, "-l needs a regular file");
    } else if (source.size == UINT64_MAX) {
        message_error(source.name, "not a znn file: it is empty");
    } else {
        znn_status status = znn_reader_open_fn(&l.reader, read_at, &source.fd, source.size, &o->codec);
        if (status != ZNN_OK)
            message_error(source.name, "%s", message_of(status));
        else
            ok = gather(&l);
    }
    if (ok && o->json)
        json_array_append_new(results, json_listing(&l));
    else if (ok)
        print_text(&l);
    tensors_free(&l.tensors);
    free(l.by_tensor);
    znn_reader_free(l.reader);
    source_close(&source);
    return ok;
}

bool list_files(const cli_options *o, char **names, size_t count)
{
    bool ok = true;
    json_t *results = json_array();
    for (size_t i = 0; i < count; i++) {
        if (i && !o->json)
            putchar('\n');
        ok = list_one(o, names[i], results) && ok;
    }
    if (o->json)
        json_results_print(results, count);
    json_decref(results);
    return ok;
}
