#include "formats/safetensors.h"

#include <stdlib.h>

#include <jansson.h>

/* Parsing takes up to 170 bytes for a value, and a stream's memory is bounded:
 * this many are 34 MB. A tensor has seven or more, so 28000 tensors fit. */
#define VALUES_MAX 200000

typedef struct {
    uint64_t begin, end;
    znn_dtype dtype;
} tensor;

size_t znn_safetensors_header_size(const uint8_t *src, size_t available)
{
    if (available < ZNN_SAFETENSORS_PREFIX)
        return 0;
    uint64_t n = znn_load64(src);
    return n >= 2 && n <= ZNN_SAFETENSORS_HEADER_MAX && src[8] == '{' ? (size_t)n + 8 : 0;
}

znn_dtype znn_safetensors_dtype(const char *name)
{
    static const struct {
        const char *name;
        znn_dtype dtype;
    } known[] = {
        {"F64", ZNN_F64}, {"F32", ZNN_F32},         {"F16", ZNN_F16},         {"BF16", ZNN_BF16},
        {"C64", ZNN_F32}, {"F8_E4M3", ZNN_F8_E4M3}, {"F8_E5M2", ZNN_F8_E5M2}, {"I64", ZNN_I64},
        {"U64", ZNN_U64}, {"I32", ZNN_I32},         {"U32", ZNN_U32},         {"I16", ZNN_I16},
        {"U16", ZNN_U16}, {"I8", ZNN_I8},           {"U8", ZNN_U8},           {"BOOL", ZNN_BOOL},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0)
            return known[i].dtype;
    return ZNN_BYTES; /* packed types, scales, and those to come */
}

/* False if it is no tensor's description. */
static bool read_tensor(tensor *t, const json_t *value)
{
    const char *name = json_string_value(json_object_get(value, "dtype"));
    const json_t *offsets = json_object_get(value, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!name || json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return false;
    t->begin = (uint64_t)json_integer_value(begin);
    t->end = (uint64_t)json_integer_value(end);
    t->dtype = znn_safetensors_dtype(name);
    return true;
}

static int by_begin(const void *a, const void *b)
{
    const tensor *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static size_t count_values(const uint8_t *json, size_t n)
{
    size_t values = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (json[i] == '"')
            in_string = !in_string;
        else if (in_string)
            i += json[i] == '\\';
        else
            values += json[i] == ',' || json[i] == '[' || json[i] == '{';
    }
    return values;
}

bool znn_safetensors_is_dense(const uint8_t *json, size_t n)
{
    return count_values(json, n) > 64 + n / 4;
}

static znn_status collect(const json_t *root, size_t header_size, const znn_allocator *allocator,
                          znn_safetensors_entry **entries, size_t *count)
{
    size_t n = 0;
    tensor *tensors = znn_alloc(allocator, (json_object_size(root) + 1) * sizeof *tensors);
    /* Of n tensors: the header, n tensors, n gaps. */
    znn_safetensors_entry *out = znn_alloc(allocator, (2 * json_object_size(root) + 1) * sizeof *out);
    znn_status status = tensors && out ? ZNN_OK : ZNN_ERROR_MEMORY;
    const char *key;
    const json_t *value;
    if (status == ZNN_OK) {
        /* Only read; jansson's macro wants it without const. */
        json_object_foreach((json_t *)(uintptr_t)root, key, value)
        {
            if (strcmp(key, "__metadata__") == 0)
                continue;
            if (!read_tensor(&tensors[n], value)) {
                status = ZNN_ERROR_FORMAT;
                break;
            }
            n += tensors[n].begin < tensors[n].end;
        }
    }
    if (status == ZNN_OK) {
        qsort(tensors, n, sizeof *tensors, by_begin);
        *count = 0;
        uint64_t at = header_size;
        out[(*count)++] = (znn_safetensors_entry){at, ZNN_BYTES};
        for (size_t i = 0; i < n && status == ZNN_OK; i++) {
            if (tensors[i].end > (uint64_t)INT64_MAX - header_size || tensors[i].begin + header_size < at) {
                status = ZNN_ERROR_FORMAT;
            } else {
                if (tensors[i].begin + header_size > at)
                    out[(*count)++] = (znn_safetensors_entry){tensors[i].begin + header_size, ZNN_BYTES};
                at = tensors[i].end + header_size;
                out[(*count)++] = (znn_safetensors_entry){at, tensors[i].dtype};
            }
        }
    }
    znn_dealloc(allocator, tensors);
    if (status == ZNN_OK)
        *entries = out;
    else
        znn_dealloc(allocator, out);
    return status;
}

znn_status znn_safetensors_parse(const uint8_t *src, size_t header_size, const znn_allocator *allocator,
                                 znn_safetensors_entry **entries, size_t *count)
{
    if (count_values(src + 8, header_size - 8) > VALUES_MAX)
        return ZNN_ERROR_FORMAT;
    json_error_t error;
    json_t *root = json_loadb((const char *)src + 8, header_size - 8, JSON_ALLOW_NUL, &error);
    if (!root)
        return json_error_code(&error) == json_error_out_of_memory ? ZNN_ERROR_MEMORY : ZNN_ERROR_FORMAT;
    znn_status status = json_is_object(root) ? collect(root, header_size, allocator, entries, count) : ZNN_ERROR_FORMAT;
    json_decref(root);
    return status;
}
