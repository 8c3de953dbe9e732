/* Compressed .safetensors files: docs/FORMAT.md, "Compressed safetensors". */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "formats/safetensors.h"
#include "frame/encoder.h"

#define HEADER_MAX ((uint64_t)100000000) /* safetensors' own limit */
#define LAYOUT_VERSION 1
#define BLOCK ((size_t)8 << 20)
#define FRAME_PORTION ((size_t)1 << 20) /* of a frame for the decoder, still in the cache when it comes to it */
#define LEAST_TO_COMPRESS 128 /* bytes; a frame alone takes about as much */
#define ABOUT "compressed by znn: pip install znn"

typedef struct {
    const char *name, *dtype;
    const uint64_t *shape;
    size_t rank;
    uint64_t begin, end;                /* in the plain file's data */
    uint64_t stored_begin, stored_size; /* in this file's data */
    size_t order;                       /* in the header */
} entry;

typedef struct {
    json_t *root; /* has the strings */
    uint64_t *shapes;
    entry *entries; /* by begin */
    size_t count;
} table;

struct znn_safetensors {
    znn_allocator allocator;
    znn_options options;
    const uint8_t *src; /* or NULL, and read */
    znn_read_fn read;
    void *opaque;
    uint64_t size;
    uint64_t data; /* where tensors begin in this file */
    bool compressed;
    char *header; /* the plain file's */
    uint64_t header_size;
    table table;
    uint64_t done;
};

/* ---- Errors ---- */

__attribute__((format(printf, 4, 5))) static znn_status fail(znn_reason *reason, znn_status status, const char *tensor,
                                                             const char *format, ...)
{
    if (!reason)
        return status;
    char *text = reason->text;
    size_t at = 0;
    if (tensor)
        at = (size_t)snprintf(text, sizeof reason->text, "tensor '%.255s': ", tensor);
    va_list values;
    va_start(values, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.*): it is not seen to be started above */
    vsnprintf(text + at, sizeof reason->text - at, format, values);
    va_end(values);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
    return status;
}

static znn_status fail_plainly(znn_reason *reason, znn_status status, const char *tensor)
{
    return status == ZNN_OK ? status : fail(reason, status, tensor, "%s", znn_status_message(status));
}

/* ---- Headers ---- */

/* Bits of an element; 0 if this is none of safetensors' types of today. */
static unsigned dtype_bits(const char *name)
{
    static const struct {
        const char *name;
        unsigned bits;
    } others[] = {{"C64", 64},    {"F4", 4},          {"F6_E2M3", 6},    {"F6_E3M2", 6},
                  {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(name, others[i].name) == 0)
            return others[i].bits;
    const znn_dtype dtype = znn_safetensors_dtype(name);
    return dtype == ZNN_BYTES ? 0 : 8 * znn_dtype_size(dtype);
}

static bool read_number(uint64_t *number, const json_t *value)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

static bool size_matches(const entry *e)
{
    uint64_t bits = dtype_bits(e->dtype);
    if (!bits)
        return true;
    for (size_t i = 0; i < e->rank; i++)
        if (__builtin_mul_overflow(bits, e->shape[i], &bits))
            return false;
    return bits % 8 == 0 && bits / 8 == e->end - e->begin;
}

/* One tensor, whose shape goes to *shapes, which moves on. */
static znn_status read_entry(entry *e, const char *name, const json_t *value, uint64_t **shapes, znn_reason *reason)
{
    const json_t *dtype = json_object_get(value, "dtype"), *shape = json_object_get(value, "shape");
    const json_t *offsets = json_object_get(value, "data_offsets");
    e->name = name;
    e->dtype = json_string_value(dtype);
    e->shape = *shapes;
    e->rank = json_array_size(shape);
    bool ok = e->dtype && strlen(e->dtype) == json_string_length(dtype) && json_is_array(shape) &&
              json_array_size(offsets) == 2 && read_number(&e->begin, json_array_get(offsets, 0)) &&
              read_number(&e->end, json_array_get(offsets, 1)) && e->begin <= e->end;
    for (size_t i = 0; ok && i < e->rank; i++)
        ok = read_number((*shapes)++, json_array_get(shape, i));
    if (!ok)
        return fail(reason, ZNN_ERROR_FORMAT, name, "its dtype, shape or offsets are missing or invalid");
    if (!size_matches(e))
        return fail(reason, ZNN_ERROR_FORMAT, name, "%s and its shape do not take the %llu bytes of its offsets",
                    e->dtype, (unsigned long long)(e->end - e->begin));
    e->stored_begin = e->begin;
    e->stored_size = e->end - e->begin;
    return ZNN_OK;
}

static int by_begin(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static bool metadata_is_sound(const json_t *root)
{
    json_t *metadata = json_object_get(root, "__metadata__"), *value;
    const char *key;
    if (!metadata)
        return true;
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return false;
    }
    return json_is_object(metadata);
}

static void table_free(table *t, const znn_allocator *allocator)
{
    json_decref(t->root);
    znn_dealloc(allocator, t->shapes);
    znn_dealloc(allocator, t->entries);
    *t = (table){0};
}

/* data: where the tensors begin, for messages. data_size: what they must take together; UINT64_MAX for anything. */
static znn_status read_entries(table *t, uint64_t data, uint64_t data_size, const znn_allocator *allocator,
                               znn_reason *reason)
{
    const char *key;
    json_t *value;
    size_t dimensions = 1;
    json_object_foreach(t->root, key, value) dimensions += json_array_size(json_object_get(value, "shape"));
    t->shapes = znn_alloc(allocator, dimensions * sizeof *t->shapes);
    t->entries = znn_alloc(allocator, (json_object_size(t->root) + 1) * sizeof *t->entries);
    if (!t->shapes || !t->entries)
        return fail_plainly(reason, ZNN_ERROR_MEMORY, NULL);
    uint64_t *shapes = t->shapes;
    json_object_foreach(t->root, key, value)
    {
        if (strcmp(key, "__metadata__") == 0)
            continue;
        t->entries[t->count].order = t->count;
        znn_status status = read_entry(&t->entries[t->count++], key, value, &shapes, reason);
        if (status != ZNN_OK)
            return status;
    }
    if (t->count)
        qsort(t->entries, t->count, sizeof *t->entries, by_begin);
    uint64_t at = 0;
    for (size_t i = 0; i < t->count; i++) {
        const entry *e = &t->entries[i];
        if (e->begin != at)
            return fail(reason, ZNN_ERROR_FORMAT, e->name,
                        "it begins at byte %llu of the data, where the one before ends at %llu",
                        (unsigned long long)e->begin, (unsigned long long)at);
        if (e->end > data_size)
            return fail(reason, ZNN_ERROR_TRUNCATED, e->name,
                        "truncated: it goes to byte %llu of the file, which ends at byte %llu",
                        (unsigned long long)(e->end + data), (unsigned long long)(data_size + data));
        at = e->end;
    }
    if (data_size != UINT64_MAX && at != data_size)
        return fail(reason, ZNN_ERROR_FORMAT, NULL,
                    "no safetensors file: its last %llu bytes, from byte %llu on, belong to no tensor",
                    (unsigned long long)(data_size - at), (unsigned long long)(data + at));
    return ZNN_OK;
}

/* data_size: what the tensors behind this header must take together; UINT64_MAX for a header in the metadata. */
static znn_status read_table(table *t, const char *json, uint64_t size, uint64_t data_size,
                             const znn_allocator *allocator, znn_reason *reason)
{
    if (znn_safetensors_is_dense((const uint8_t *)json, size))
        return fail(reason, ZNN_ERROR_FORMAT, NULL, "no safetensors file: its header holds too many values");
    json_error_t error;
    t->root = json_loadb(json, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!t->root && json_error_code(&error) == json_error_out_of_memory)
        return fail_plainly(reason, ZNN_ERROR_MEMORY, NULL);
    if (!t->root && data_size != UINT64_MAX)
        return fail(reason, ZNN_ERROR_FORMAT, NULL,
                    "no safetensors file: its header is no valid JSON from byte %llu of the file on: %s",
                    8 + (unsigned long long)error.position, error.text);
    if (!t->root)
        return fail(reason, ZNN_ERROR_FORMAT, NULL, "damaged: the header in its metadata is no valid JSON: %s",
                    error.text);
    if (!json_is_object(t->root) || !metadata_is_sound(t->root))
        return fail(reason, ZNN_ERROR_FORMAT, NULL, "no safetensors file: its metadata are not names and texts");
    return read_entries(t, 8 + size, data_size, allocator, reason);
}

/* ---- Opening ---- */

static int fetch(const znn_safetensors *f, uint64_t offset, void *dst, size_t size)
{
    if (!f->src)
        return f->read(f->opaque, offset, dst, size);
    if (size)
        memcpy(dst, f->src + offset, size);
    return 0;
}

/* What compressing left in the metadata; NULL if there is nothing of the kind. */
static json_t *read_note(const json_t *root)
{
    const json_t *text = json_object_get(json_object_get(root, "__metadata__"), "znn");
    if (!text)
        return NULL;
    json_t *note = json_loadb(json_string_value(text), json_string_length(text), JSON_ALLOW_NUL, NULL);
    if (json_is_integer(json_object_get(note, "version")) && json_is_string(json_object_get(note, "header")))
        return note;
    json_decref(note);
    return NULL;
}

/* Find the tensors of the plain file (f->table) in this one (stored). */
static znn_status match(znn_safetensors *f, const table *stored, znn_reason *reason)
{
    if (stored->count != f->table.count)
        return fail(reason, ZNN_ERROR_FORMAT, NULL, "it holds %zu tensors, where its metadata tell of %zu",
                    stored->count, f->table.count);
    for (size_t i = 0; i < stored->count; i++) {
        const entry *s = &stored->entries[i];
        entry *e = &f->table.entries[i];
        if (strcmp(s->name, e->name) != 0)
            return fail(reason, ZNN_ERROR_FORMAT, s->name, "it is not where the metadata have it");
        e->stored_begin = s->begin;
        e->stored_size = s->end - s->begin;
        const uint64_t size = e->end - e->begin;
        bool ok = e->stored_size <= size;
        if (e->stored_size == size)
            ok = strcmp(s->dtype, e->dtype) == 0 && s->rank == e->rank &&
                 (!s->rank || memcmp(s->shape, e->shape, s->rank * sizeof *s->shape) == 0);
        else
            ok = ok && strcmp(s->dtype, "U8") == 0 && s->rank == 1;
        if (!ok)
            return fail(reason, ZNN_ERROR_FORMAT, e->name,
                        "%s of %llu bytes cannot be what the metadata tell of: %s of %llu bytes", s->dtype,
                        (unsigned long long)e->stored_size, e->dtype, (unsigned long long)size);
    }
    return ZNN_OK;
}

static char *copy_text(const znn_allocator *allocator, const char *text, size_t size)
{
    char *copy = znn_alloc(allocator, size + 1);
    if (copy) {
        memcpy(copy, text, size);
        copy[size] = 0;
    }
    return copy;
}

/* The file's own header is read; if it is a compressed one, see what it was. */
static znn_status open_compressed(znn_safetensors *f, const json_t *note, znn_reason *reason)
{
    const json_t *header = json_object_get(note, "header");
    if (json_integer_value(json_object_get(note, "version")) != LAYOUT_VERSION)
        return fail(reason, ZNN_ERROR_UNSUPPORTED, NULL,
                    "it was compressed by a later version of znn, of whose layout this one knows nothing");
    char *text = copy_text(&f->allocator, json_string_value(header), json_string_length(header));
    if (!text)
        return fail_plainly(reason, ZNN_ERROR_MEMORY, NULL);
    znn_dealloc(&f->allocator, f->header);
    f->header = text;
    f->header_size = json_string_length(header);
    f->compressed = true;
    if (f->header_size > HEADER_MAX || text[0] != '{')
        return fail(reason, ZNN_ERROR_FORMAT, NULL, "the header in its metadata is none");
    table stored = f->table;
    f->table = (table){0};
    znn_status status = read_table(&f->table, text, f->header_size, UINT64_MAX, &f->allocator, reason);
    if (status == ZNN_OK)
        status = match(f, &stored, reason);
    table_free(&stored, &f->allocator);
    return status;
}

static znn_status open_header(znn_safetensors *f, znn_reason *reason)
{
    uint8_t prefix[9];
    if (f->size < sizeof prefix)
        return fail(reason, ZNN_ERROR_FORMAT, NULL,
                    "no safetensors file, or truncated: it is too short, with %llu bytes", (unsigned long long)f->size);
    if (fetch(f, 0, prefix, sizeof prefix) != 0)
        return fail_plainly(reason, ZNN_ERROR_IO, NULL);
    f->header_size = znn_load64(prefix);
    if (prefix[8] != '{' || f->header_size > HEADER_MAX)
        return fail(reason, ZNN_ERROR_FORMAT, NULL, "not a safetensors file, or its beginning is damaged");
    if (f->header_size > f->size - 8)
        return fail(reason, ZNN_ERROR_TRUNCATED, NULL, "truncated: it ends before its header does, at byte %llu",
                    (unsigned long long)f->size);
    f->data = 8 + f->header_size;
    f->header = znn_alloc(&f->allocator, (size_t)f->header_size + 1);
    if (!f->header)
        return fail_plainly(reason, ZNN_ERROR_MEMORY, NULL);
    if (fetch(f, 8, f->header, (size_t)f->header_size) != 0)
        return fail_plainly(reason, ZNN_ERROR_IO, NULL);
    f->header[f->header_size] = 0;
    znn_status status = read_table(&f->table, f->header, f->header_size, f->size - f->data, &f->allocator, reason);
    json_t *note = status == ZNN_OK ? read_note(f->table.root) : NULL;
    if (note)
        status = open_compressed(f, note, reason);
    json_decref(note);
    return status;
}

static znn_status open_any(znn_safetensors **file, const znn_safetensors *like, const znn_options *options,
                           znn_reason *reason)
{
    *file = NULL;
    if (reason)
        reason->text[0] = 0;
    znn_options checked;
    znn_status status = znn_options_check(&checked, options);
    if (status != ZNN_OK)
        return fail_plainly(reason, status, NULL);
    checked.base = NULL;
    checked.base_size = 0;
    const znn_allocator allocator = znn_allocator_from(&checked);
    znn_safetensors *f = znn_alloc(&allocator, sizeof *f);
    if (!f)
        return fail_plainly(reason, ZNN_ERROR_MEMORY, NULL);
    *f = *like;
    f->options = checked;
    f->allocator = allocator;
    status = open_header(f, reason);
    if (status != ZNN_OK) {
        znn_safetensors_free(f);
        return status;
    }
    *file = f;
    return ZNN_OK;
}

znn_status znn_safetensors_open(znn_safetensors **file, const void *src, uint64_t size, const znn_options *options,
                                znn_reason *reason)
{
    /* Nothing has no address: any will do. */
    const znn_safetensors like = {.src = size ? src : (const void *)"", .size = size};
    return open_any(file, &like, options, reason);
}

znn_status znn_safetensors_open_fn(znn_safetensors **file, znn_read_fn read, void *opaque, uint64_t size,
                                   const znn_options *options, znn_reason *reason)
{
    const znn_safetensors like = {.read = read, .opaque = opaque, .size = size};
    return open_any(file, &like, options, reason);
}

void znn_safetensors_free(znn_safetensors *f)
{
    if (!f)
        return;
    table_free(&f->table, &f->allocator);
    znn_dealloc(&f->allocator, f->header);
    const znn_allocator allocator = f->allocator;
    znn_dealloc(&allocator, f);
}

/* ---- Asking ---- */

int znn_safetensors_is_compressed(const znn_safetensors *f)
{
    return f->compressed;
}

const char *znn_safetensors_header(const znn_safetensors *f, uint64_t *size)
{
    *size = f->header_size;
    return f->header;
}

uint64_t znn_safetensors_count(const znn_safetensors *f)
{
    return f->table.count;
}

znn_status znn_safetensors_tensor_info(const znn_safetensors *f, uint64_t index, znn_safetensors_tensor *tensor)
{
    if (index >= f->table.count)
        return ZNN_ERROR_ARGUMENT;
    const entry *e = &f->table.entries[index];
    *tensor = (znn_safetensors_tensor){.name = e->name,
                                       .dtype = e->dtype,
                                       .shape = e->shape,
                                       .rank = e->rank,
                                       .size = e->end - e->begin,
                                       .stored_offset = f->data + e->stored_begin,
                                       .stored_size = e->stored_size,
                                       .order = e->order};
    return ZNN_OK;
}

uint64_t znn_safetensors_done(const znn_safetensors *f)
{
    return f->done;
}

/* ---- Reading ---- */

/* A part of the file as a file of its own. */
typedef struct {
    const znn_safetensors *file;
    uint64_t offset;
} window;

static int read_window(void *opaque, uint64_t offset, void *dst, size_t size)
{
    const window *w = opaque;
    return fetch(w->file, w->offset + offset, dst, size);
}

/* The reader of a compressed tensor; w must live as long. */
static znn_status open_frame(znn_reader **reader, window *w, const znn_safetensors *f, const entry *e,
                             znn_reason *reason)
{
    *w = (window){f, f->data + e->stored_begin};
    znn_status status = f->src ? znn_reader_open(reader, f->src + w->offset, e->stored_size, &f->options)
                               : znn_reader_open_fn(reader, read_window, w, e->stored_size, &f->options);
    if (status != ZNN_OK)
        return fail_plainly(reason, status, e->name);
    if (znn_reader_size(*reader) == e->end - e->begin)
        return ZNN_OK;
    fail(reason, ZNN_ERROR_FORMAT, e->name, "its frame holds %llu bytes, where its dtype and shape take %llu",
         (unsigned long long)znn_reader_size(*reader), (unsigned long long)(e->end - e->begin));
    znn_reader_free(*reader);
    return ZNN_ERROR_FORMAT;
}

znn_status znn_safetensors_read(const znn_safetensors *f, uint64_t index, void *dst, uint64_t offset, uint64_t size,
                                znn_reason *reason)
{
    if (reason)
        reason->text[0] = 0;
    if (index >= f->table.count)
        return fail_plainly(reason, ZNN_ERROR_ARGUMENT, NULL);
    const entry *e = &f->table.entries[index];
    const uint64_t content = e->end - e->begin;
    if (offset > content || size > content - offset || size > SIZE_MAX)
        return fail_plainly(reason, ZNN_ERROR_ARGUMENT, e->name);
    if (e->stored_size == content) {
        const int failed = fetch(f, f->data + e->stored_begin + offset, dst, (size_t)size);
        return failed ? fail_plainly(reason, ZNN_ERROR_IO, e->name) : ZNN_OK;
    }
    window w;
    znn_reader *reader;
    znn_status status = open_frame(&reader, &w, f, e, reason);
    if (status == ZNN_OK) {
        status = fail_plainly(reason, znn_reader_read(reader, dst, offset, size), e->name);
        znn_reader_free(reader);
    }
    return status;
}

/* ---- Writing ---- */

typedef struct {
    znn_safetensors *file;
    znn_write_fn write;
    void *opaque;
    znn_reason *reason;
    uint64_t at;             /* where the next byte goes */
    uint8_t *input, *output; /* a block each */
    znn_encoder *encoder;    /* these two from the first tensor that needs one to the last */
    znn_decoder *decoder;
    uint64_t decoded; /* bytes of frames that the decoder had for the tensors before */
} transformation;

static znn_status begin(transformation *t, znn_safetensors *f, znn_write_fn write, void *opaque, znn_reason *reason)
{
    if (reason)
        reason->text[0] = 0;
    *t = (transformation){.file = f, .write = write, .opaque = opaque, .reason = reason};
    f->done = 0;
    t->input = znn_alloc(&f->allocator, BLOCK);
    t->output = znn_alloc(&f->allocator, BLOCK);
    return t->input && t->output ? ZNN_OK : fail_plainly(reason, ZNN_ERROR_MEMORY, NULL);
}

static void end(transformation *t)
{
    znn_dealloc(&t->file->allocator, t->input);
    znn_dealloc(&t->file->allocator, t->output);
    znn_encoder_free(t->encoder);
    znn_decoder_free(t->decoder);
}

static znn_status put(transformation *t, const void *src, size_t size)
{
    if (size && t->write(t->opaque, t->at, src, size) != 0)
        return fail(t->reason, ZNN_ERROR_IO, NULL, "cannot write");
    t->at += size;
    return ZNN_OK;
}

/* The `rest` bytes of the file from `offset` on, or the first `most` of them, up to BLOCK: *size, and where they lie;
 * NULL if they cannot be read. */
static const uint8_t *get(transformation *t, uint64_t offset, uint64_t rest, size_t most, size_t *size)
{
    *size = (size_t)ZNN_MIN(rest, most);
    if (t->file->src)
        return t->file->src + offset;
    return fetch(t->file, offset, t->input, *size) == 0 ? t->input : NULL;
}

/* The tensor as it is. */
static znn_status copy(transformation *t, const entry *e)
{
    const uint64_t from = t->file->data + e->stored_begin, before = t->file->done;
    znn_status status = ZNN_OK;
    size_t size;
    for (uint64_t done = 0; done < e->stored_size && status == ZNN_OK; done += size) {
        const uint8_t *src = get(t, from + done, e->stored_size - done, BLOCK, &size);
        t->file->done = before + done + size;
        status = src ? put(t, src, size) : fail_plainly(t->reason, ZNN_ERROR_IO, e->name);
    }
    return status;
}

/* Its frame, as long as that is smaller than the tensor. */
static znn_status encode(transformation *t, const entry *e, bool *smaller)
{
    if (!t->encoder) {
        const znn_status status = znn_encoder_new(&t->encoder, &t->file->options);
        if (status != ZNN_OK)
            return fail_plainly(t->reason, status, e->name);
    }
    znn_encoder_begin(t->encoder, znn_safetensors_dtype(e->dtype), e->stored_size);
    const uint64_t from = t->file->data + e->stored_begin, begin = t->at, before = t->file->done;
    uint64_t done = 0;
    znn_in_buffer in = {NULL, 0, 0};
    size_t pending = 1;
    *smaller = true;
    while (done < e->stored_size || in.pos < in.size || pending) {
        if (in.pos == in.size && done < e->stored_size) {
            in.src = get(t, from + done, e->stored_size - done, BLOCK, &in.size);
            in.pos = 0;
            if (!in.src)
                return fail_plainly(t->reason, ZNN_ERROR_IO, e->name);
            done += in.size;
        }
        znn_out_buffer out = {t->output, BLOCK, 0};
        znn_status status =
            znn_encoder_run(t->encoder, &out, &in, done == e->stored_size ? ZNN_END : ZNN_CONTINUE, &pending);
        if (status != ZNN_OK)
            return fail_plainly(t->reason, status, e->name);
        *smaller = t->at - begin + out.pos < e->stored_size;
        if (!*smaller)
            return ZNN_OK;
        t->file->done = before + done - (in.size - in.pos);
        status = put(t, t->output, out.pos);
        if (status != ZNN_OK)
            return status;
    }
    return ZNN_OK;
}

/* The tensor, compressed if that makes it smaller. */
static znn_status compress_tensor(transformation *t, entry *e)
{
    const uint64_t begin = t->at, before = t->file->done;
    bool smaller = false;
    znn_status status = ZNN_OK;
    if (e->stored_size >= LEAST_TO_COMPRESS)
        status = encode(t, e, &smaller);
    if (status == ZNN_OK && !smaller) {
        t->at = begin;
        t->file->done = before;
        status = copy(t, e);
    }
    return status;
}

/* JSON being made. */
typedef struct {
    const znn_allocator *allocator;
    char *text;
    size_t size, room;
    bool failed;
} text;

static void append(text *t, const char *src, size_t size)
{
    if (!t->failed && size > t->room - t->size) {
        const size_t room = 2 * t->room + size;
        char *larger = znn_alloc(t->allocator, room);
        if (larger && t->size)
            memcpy(larger, t->text, t->size);
        if (larger) {
            znn_dealloc(t->allocator, t->text);
            t->text = larger;
            t->room = room;
        }
        t->failed = !larger;
    }
    if (!t->failed)
        memcpy(t->text + t->size, src, size);
    t->size += t->failed ? 0 : size;
}

static void append_word(text *t, const char *word)
{
    append(t, word, strlen(word));
}

static void append_number(text *t, uint64_t number)
{
    char digits[24];
    append(t, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)number));
}

static void append_json(text *t, const json_t *value)
{
    char *json = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    if (json)
        append_word(t, json);
    else
        t->failed = true;
    free(json);
}

static void append_string(text *t, const char *string)
{
    json_t *value = json_string(string);
    append_json(t, value);
    json_decref(value);
}

static void append_metadata(text *t, const znn_safetensors *f)
{
    append_word(t, "{\"__metadata__\":{");
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(f->table.root, "__metadata__"), key, value)
    {
        if (strcmp(key, "znn") == 0)
            continue;
        append_string(t, key);
        append_word(t, ":");
        append_json(t, value);
        append_word(t, ",");
    }
    json_t *note = json_pack("{s:s,s:i,s:s%}", "about", ABOUT, "version", LAYOUT_VERSION, "header", f->header,
                             (size_t)f->header_size);
    char *json = note ? json_dumps(note, JSON_COMPACT) : NULL;
    append_word(t, "\"znn\":");
    append_string(t, json ? json : "");
    append_word(t, "}");
    t->failed = t->failed || !json;
    free(json);
    json_decref(note);
}

static void append_entry(text *t, const entry *e, const char *dtype, const uint64_t *shape, size_t rank, uint64_t begin,
                         uint64_t size)
{
    append_word(t, ",");
    append_string(t, e->name);
    append_word(t, ":{\"dtype\":");
    append_string(t, dtype);
    append_word(t, ",\"shape\":[");
    for (size_t i = 0; i < rank; i++) {
        append(t, ",", i > 0);
        append_number(t, shape[i]);
    }
    append_word(t, "],\"data_offsets\":[");
    append_number(t, begin);
    append_word(t, ",");
    append_number(t, begin + size);
    append_word(t, "]}");
}

typedef struct {
    uint64_t begin, size;
} place;

/* The header with the tensors in those places (by data order); with NULL,
 * one that has room for any places that compressing leads to. */
static znn_status make_header(text *out, const transformation *t, const place *places)
{
    const znn_safetensors *f = t->file;
    *out = (text){.allocator = &f->allocator};
    const entry **by_order = znn_alloc(&f->allocator, (f->table.count + 1) * sizeof *by_order);
    out->failed = !by_order;
    if (by_order) {
        for (size_t i = 0; i < f->table.count; i++)
            by_order[f->table.entries[i].order] = &f->table.entries[i];
        append_metadata(out, f);
    }
    for (size_t i = 0; !out->failed && i < f->table.count; i++) {
        const entry *e = by_order[i];
        const uint64_t size = e->end - e->begin;
        const place p = places ? places[e - f->table.entries] : (place){e->begin, size};
        const size_t before = out->size;
        append_entry(out, e, e->dtype, e->shape, e->rank, p.begin, p.size);
        const size_t plain = out->size - before;
        if (!places || p.size != size) {
            out->size = before;
            append_entry(out, e, "U8", &p.size, 1, p.begin, p.size);
        }
        while (!places && !out->failed && out->size - before < plain)
            append_word(out, " ");
    }
    append_word(out, "}");
    znn_dealloc(&f->allocator, by_order);
    return out->failed ? fail_plainly(t->reason, ZNN_ERROR_MEMORY, NULL) : ZNN_OK;
}

/* Put the header before the data, filled up with spaces to `size`. */
static znn_status put_header(transformation *t, const place *places, uint64_t size)
{
    text header;
    znn_status status = make_header(&header, t, places);
    while (status == ZNN_OK && header.size < size && !header.failed)
        append_word(&header, " ");
    if (status == ZNN_OK && header.failed)
        status = fail_plainly(t->reason, ZNN_ERROR_MEMORY, NULL);
    uint8_t length[8];
    znn_store64(length, size);
    t->at = 0;
    if (status == ZNN_OK)
        status = put(t, length, sizeof length);
    if (status == ZNN_OK)
        status = put(t, header.text, header.size);
    znn_dealloc(&t->file->allocator, header.text);
    return status;
}

static znn_status compress_all(transformation *t, uint64_t *written)
{
    znn_safetensors *f = t->file;
    text largest;
    znn_status status = make_header(&largest, t, NULL);
    const uint64_t header = (largest.size + 7) & ~(uint64_t)7;
    znn_dealloc(&f->allocator, largest.text);
    if (status == ZNN_OK && header > HEADER_MAX)
        status = fail(t->reason, ZNN_ERROR_FORMAT, NULL, "with the plain header in it, the new one would be too large");
    place *places = znn_alloc(&f->allocator, (f->table.count + 1) * sizeof *places);
    if (status == ZNN_OK && !places)
        status = fail_plainly(t->reason, ZNN_ERROR_MEMORY, NULL);
    t->at = 8 + header;
    for (size_t i = 0; i < f->table.count && status == ZNN_OK; i++) {
        const uint64_t begin = t->at;
        status = compress_tensor(t, &f->table.entries[i]);
        /* NOLINTNEXTLINE(clang-analyzer-core.*): without places, status is an error */
        places[i] = (place){begin - 8 - header, t->at - begin};
    }
    *written = t->at;
    if (status == ZNN_OK)
        status = put_header(t, places, header);
    znn_dealloc(&f->allocator, places);
    return status;
}

znn_status znn_safetensors_compress(znn_safetensors *f, znn_write_fn write, void *opaque, uint64_t *written,
                                    znn_reason *reason)
{
    if (f->compressed)
        return fail(reason, ZNN_ERROR_FORMAT, NULL, "it is compressed already");
    transformation t;
    znn_status status = begin(&t, f, write, opaque, reason);
    if (status == ZNN_OK)
        status = compress_all(&t, written);
    end(&t);
    return status;
}

static znn_status bad_frame(const transformation *t, const entry *e, znn_status status)
{
    uint64_t place;
    znn_decoder_position(t->decoder, &place, NULL);
    return fail(t->reason, status, e->name, "%s (at byte %llu of the file)",
                status == ZNN_ERROR_FORMAT ? "its frame is damaged" : znn_status_message(status),
                (unsigned long long)(t->file->data + e->stored_begin + place - t->decoded));
}

/* The content of a tensor's frame, in portions as they come. */
static znn_status decode(transformation *t, const entry *e)
{
    const uint64_t content = e->end - e->begin, from = t->file->data + e->stored_begin;
    uint64_t taken = 0, made = 0;
    znn_in_buffer in = {NULL, 0, 0};
    int ended = 0;
    while (!ended || taken < e->stored_size || in.pos < in.size) {
        if (in.pos == in.size && taken < e->stored_size) {
            in.src = get(t, from + taken, e->stored_size - taken, FRAME_PORTION, &in.size);
            in.pos = 0;
            if (!in.src)
                return fail_plainly(t->reason, ZNN_ERROR_IO, e->name);
            taken += in.size;
        }
        znn_out_buffer out = {t->output, BLOCK, 0};
        znn_status status = znn_decoder_run(t->decoder, &out, &in, &ended);
        if (status == ZNN_OK && out.pos == 0 && !ended && in.pos == in.size && taken == e->stored_size)
            status = ZNN_ERROR_TRUNCATED;
        if (status != ZNN_OK)
            return bad_frame(t, e, status);
        made += out.pos;
        if (made > content)
            break;
        t->file->done += out.pos;
        if ((status = put(t, t->output, out.pos)) != ZNN_OK)
            return status;
    }
    t->decoded += e->stored_size;
    return made == content
               ? ZNN_OK
               : fail(t->reason, ZNN_ERROR_FORMAT, e->name,
                      "its frame holds %llu bytes%s, where its dtype and shape take %llu", (unsigned long long)made,
                      made > content ? " or more" : "", (unsigned long long)content);
}

static znn_status decompress_tensor(transformation *t, const entry *e)
{
    if (e->stored_size == e->end - e->begin)
        return copy(t, e);
    if (!t->decoder) {
        const znn_status status = znn_decoder_new(&t->decoder, &t->file->options);
        if (status != ZNN_OK)
            return fail_plainly(t->reason, status, e->name);
    }
    return decode(t, e);
}

znn_status znn_safetensors_decompress(znn_safetensors *f, znn_write_fn write, void *opaque, uint64_t *written,
                                      znn_reason *reason)
{
    if (!f->compressed)
        return fail(reason, ZNN_ERROR_FORMAT, NULL, "it is a plain safetensors file, not one that znn compressed");
    transformation t;
    znn_status status = begin(&t, f, write, opaque, reason);
    uint8_t length[8];
    znn_store64(length, f->header_size);
    if (status == ZNN_OK)
        status = put(&t, length, sizeof length);
    if (status == ZNN_OK)
        status = put(&t, f->header, (size_t)f->header_size);
    for (size_t i = 0; i < f->table.count && status == ZNN_OK; i++)
        status = decompress_tensor(&t, &f->table.entries[i]);
    *written = t.at;
    end(&t);
    return status;
}
