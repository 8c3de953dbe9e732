/*
 * A safetensors file some tensors of which are ZipNN streams: the metadata name
 * them, or, where the source had no metadata, they are one-dimensional U8
 * tensors that hold exactly one stream each. Its content is made anew: the
 * header as the safetensors library writes it, the tensors as they were.
 */
#include <stdlib.h>

#include <jansson.h>

#include "zipnn/reader.h"

#define KEY "znn_compressed_vectors"

typedef struct {
    const char *name, *dtype;
    const uint64_t *shape; /* of a stored tensor; a stream's is in its header */
    size_t rank;
    uint64_t stored_offset, stored_size, content_size;
    znn_dtype stream_dtype; /* ZNN_AUTO: stored */
    unsigned place;         /* among safetensors' types */
} tensor;

/* In the order of the safetensors library, which writes the last ones first. */
static unsigned place_of(const char *dtype)
{
    static const char *const order[] = {"BOOL",    "F4",      "F6_E2M3", "F6_E3M2",     "U8",          "I8",
                                        "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16",
                                        "U16",     "F16",     "BF16",    "I32",         "U32",         "F32",
                                        "C64",     "F64",     "I64",     "U64"};
    unsigned i = 0;
    while (i < sizeof order / sizeof *order && strcmp(order[i], dtype) != 0)
        i++;
    return i;
}

static int in_library_order(const void *a, const void *b)
{
    const tensor *x = a, *y = b;
    if (x->place != y->place)
        return x->place > y->place ? -1 : 1;
    return strcmp(x->name, y->name);
}

static const char *safetensors_name(znn_dtype dtype)
{
    switch (dtype) {
    case ZNN_F32: return "F32";
    case ZNN_F16: return "F16";
    case ZNN_BF16: return "BF16";
    case ZNN_F8_E4M3: return "F8_E4M3";
    default: return "F8_E5M2";
    }
}

/* The header of a tensor's stream, which must be all that the tensor holds. */
static znn_status read_stream(const znn_zipnn_reader *r, const tensor *t, znn_zipnn_header *h)
{
    znn_status status = znn_zipnn_fetch_header(r, h, t->stored_offset, t->stored_size);
    if (status != ZNN_OK)
        return status;
    if (h->delta)
        return ZNN_ERROR_UNSUPPORTED;
    uint64_t size = znn_dtype_size(h->dtype);
    for (unsigned d = 0; d < h->dimensions; d++)
        if (__builtin_mul_overflow(size, h->shape[d], &size))
            return ZNN_ERROR_FORMAT;
    bool whole = h->stored_size == t->stored_size && h->input == ZNN_ZIPNN_TORCH && size == h->content_size;
    return whole ? ZNN_OK : ZNN_ERROR_FORMAT;
}

/* `known`: what the metadata tell of; NULL if they tell nothing. */
static znn_status look_at(const znn_zipnn_reader *r, tensor *t, const json_t *known, znn_zipnn_info *info)
{
    bool told = known && json_object_get(known, t->name);
    if (known ? !told : strcmp(t->dtype, "U8") != 0 || t->rank != 1)
        return ZNN_OK;
    znn_zipnn_header h;
    znn_status status = read_stream(r, t, &h);
    if (status != ZNN_OK)
        return told || (status != ZNN_ERROR_FORMAT && status != ZNN_ERROR_TRUNCATED) ? status : ZNN_OK;
    t->stream_dtype = h.dtype;
    t->content_size = h.content_size;
    t->dtype = safetensors_name(h.dtype);
    t->place = place_of(t->dtype);
    if (!info->version[1])
        znn_zipnn_describe(info, &h);
    return ZNN_OK;
}

static znn_status read_tensors(znn_zipnn_reader *r, tensor *tensors, uint64_t count, const json_t *known)
{
    for (uint64_t i = 0; i < count; i++) {
        znn_safetensors_tensor s;
        znn_status status = znn_safetensors_tensor_info(r->file, i, &s);
        if (status != ZNN_OK)
            return status;
        tensor *t = &tensors[i];
        *t = (tensor){s.name,        s.dtype, s.shape,  s.rank,           s.stored_offset,
                      s.stored_size, s.size,  ZNN_AUTO, place_of(s.dtype)};
        status = look_at(r, t, known, &r->info);
        if (status != ZNN_OK)
            return status;
    }
    return r->info.version[1] ? ZNN_OK : ZNN_ERROR_FORMAT;
}

static json_t *describe(const znn_zipnn_reader *r, const tensor *t, uint64_t offset)
{
    znn_zipnn_header h;
    const uint64_t *shape = t->shape;
    size_t rank = t->rank;
    if (t->stream_dtype != ZNN_AUTO) {
        if (read_stream(r, t, &h) != ZNN_OK)
            return NULL;
        shape = h.shape;
        rank = h.dimensions;
    }
    json_t *numbers = json_array();
    for (size_t i = 0; i < rank; i++)
        json_array_append_new(numbers, json_integer((json_int_t)shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", t->dtype, "shape", numbers, "data_offsets", (json_int_t)offset,
                     (json_int_t)(offset + t->content_size));
}

/* r->made: the length, the JSON, and spaces up to a multiple of 8. */
static znn_status make_header(znn_zipnn_reader *r, const tensor *tensors, uint64_t count, json_t *metadata)
{
    json_t *root = json_object();
    if (metadata) {
        json_object_del(metadata, KEY);
        json_object_set(root, "__metadata__", metadata);
    }
    uint64_t offset = 0;
    bool ok = root;
    for (uint64_t i = 0; ok && i < count; i++) {
        ok = tensors[i].content_size <= INT64_MAX - offset &&
             json_object_set_new(root, tensors[i].name, describe(r, &tensors[i], offset)) == 0;
        offset += tensors[i].content_size;
    }
    char *text = ok ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text)
        return ok ? ZNN_ERROR_MEMORY : ZNN_ERROR_FORMAT;
    size_t size = strlen(text), padded = (size + 7) / 8 * 8;
    r->made = znn_alloc(&r->allocator, 8 + padded);
    if (r->made) {
        znn_store64(r->made, padded);
        memcpy(r->made + 8, text, size);
        memset(r->made + 8 + size, ' ', padded - size);
        r->made_size = 8 + padded;
    }
    free(text);
    return r->made ? ZNN_OK : ZNN_ERROR_MEMORY;
}

static znn_status add_parts(znn_zipnn_reader *r, const tensor *tensors, uint64_t count)
{
    znn_status status = znn_zipnn_add_part(r, ZNN_ZIPNN_MADE, NULL, ZNN_BYTES, 0, r->made_size);
    for (uint64_t i = 0; status == ZNN_OK && i < count; i++) {
        const tensor *t = &tensors[i];
        bool stream = t->stream_dtype != ZNN_AUTO;
        int dtype = stream ? (int)t->stream_dtype : znn_dtype_from_name(t->dtype);
        status = znn_zipnn_add_part(r, stream ? ZNN_ZIPNN_STREAM : ZNN_ZIPNN_COPY, t->name,
                                    dtype < 0 ? ZNN_BYTES : (znn_dtype)dtype, t->stored_offset, t->content_size);
    }
    return status;
}

/* What the metadata tell of; a new reference. NULL if there is no such key. */
static znn_status read_known(json_t *metadata, json_t **known)
{
    const char *text = json_string_value(json_object_get(metadata, KEY));
    *known = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    return !text || json_is_object(*known) ? ZNN_OK : ZNN_ERROR_FORMAT;
}

static znn_status open_file(znn_zipnn_reader *r)
{
    znn_options options;
    znn_options_init(&options);
    znn_status status = r->src ? znn_safetensors_open(&r->file, r->src, r->size, &options, NULL)
                               : znn_safetensors_open_fn(&r->file, r->read, r->opaque, r->size, &options, NULL);
    if (status == ZNN_OK && znn_safetensors_is_compressed(r->file))
        status = ZNN_ERROR_FORMAT;
    return status;
}

znn_status znn_zipnn_open_safetensors(znn_zipnn_reader *r)
{
    znn_status status = open_file(r);
    if (status != ZNN_OK)
        return status;
    uint64_t size, count = znn_safetensors_count(r->file);
    const char *text = znn_safetensors_header(r->file, &size);
    json_t *root = json_loadb(text, (size_t)size, 0, NULL), *known = NULL;
    json_t *metadata = json_object_get(root, "__metadata__");
    if (!json_is_object(root))
        status = ZNN_ERROR_FORMAT;
    if (status == ZNN_OK)
        status = read_known(metadata, &known);
    tensor *tensors = znn_alloc(&r->allocator, (size_t)(count + 1) * sizeof *tensors);
    if (!tensors)
        status = ZNN_ERROR_MEMORY;
    if (status == ZNN_OK)
        status = read_tensors(r, tensors, count, known);
    if (status == ZNN_OK) {
        qsort(tensors, (size_t)count, sizeof *tensors, in_library_order);
        status = make_header(r, tensors, count, metadata);
    }
    if (status == ZNN_OK)
        status = add_parts(r, tensors, count);
    r->info.is_safetensors = 1;
    znn_dealloc(&r->allocator, tensors);
    json_decref(known);
    json_decref(root);
    return status;
}
