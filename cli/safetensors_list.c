#include "safetensors_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "message.h"
#include "table.h"

/* Told apart: safetensors has some twenty, but a hostile header may name as many as it has tensors. The last is of all
 * others. */
#define DTYPES_MAX 64

/* Tensors of one dtype. */
typedef struct {
    const char *dtype;
    uint64_t tensors, content, stored;
} sum;

typedef struct {
    const source_file *source;
    uint64_t tensors;
    uint64_t content, stored; /* the whole files, headers included */
    sum dtypes[DTYPES_MAX];   /* in the order of their first tensors */
    size_t dtypes_count;
} listing;

static sum *sum_of(listing *l, const char *dtype)
{
    for (size_t i = 0; i < l->dtypes_count; i++)
        if (strcmp(l->dtypes[i].dtype, dtype) == 0)
            return &l->dtypes[i];
    if (l->dtypes_count == DTYPES_MAX)
        return &l->dtypes[DTYPES_MAX - 1];
    l->dtypes[l->dtypes_count] = (sum){.dtype = l->dtypes_count == DTYPES_MAX - 1 ? "others" : dtype};
    return &l->dtypes[l->dtypes_count++];
}

static znn_safetensors_tensor tensor_at(const listing *l, uint64_t index)
{
    znn_safetensors_tensor tensor;
    znn_safetensors_tensor_info(l->source->safetensors, index, &tensor); /* it is one of those counted */
    return tensor;
}

static void gather(listing *l)
{
    uint64_t header;
    znn_safetensors_header(l->source->safetensors, &header);
    l->content = 8 + header;
    l->stored = l->source->size;
    for (uint64_t i = 0; i < l->tensors; i++) {
        const znn_safetensors_tensor tensor = tensor_at(l, i);
        sum *s = sum_of(l, tensor.dtype);
        s->tensors++;
        s->content += tensor.size;
        s->stored += tensor.stored_size;
        l->content += tensor.size;
    }
}

/* "4096x11008"; freed by the caller. */
static char *shape_text(const znn_safetensors_tensor *tensor)
{
    const size_t room = 21 * tensor->rank + 1;
    char *text = allocate(room);
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < tensor->rank; i++)
        at += (size_t)snprintf(text + at, room - at, i ? "x%llu" : "%llu", (unsigned long long)tensor->shape[i]);
    return text;
}

static void print_text(const listing *l)
{
    const bool compressed = znn_safetensors_is_compressed(l->source->safetensors);
    table_file(l->source->name, l->content, l->stored);
    printf("  %s, %llu tensor%s\n\n", compressed ? "compressed safetensors" : "plain safetensors, not compressed",
           (unsigned long long)l->tensors, l->tensors == 1 ? "" : "s");
    table_titles("dtype", 8, "tensors");
    putchar('\n');
    for (size_t i = 0; i < l->dtypes_count; i++) {
        char count[24];
        snprintf(count, sizeof count, "%llu", (unsigned long long)l->dtypes[i].tensors);
        table_row(l->dtypes[i].dtype, 8, count, l->dtypes[i].content, l->dtypes[i].stored);
        putchar('\n');
    }
    if (!l->tensors)
        return;
    int width = 6;
    for (uint64_t i = 0; i < l->tensors; i++)
        width = table_width(width, tensor_at(l, i).name);
    putchar('\n');
    table_titles("tensor", width, "dtype");
    puts("  shape");
    for (uint64_t i = 0; i < l->tensors; i++) {
        const znn_safetensors_tensor tensor = tensor_at(l, i);
        char *shape = shape_text(&tensor);
        table_row(tensor.name, width, tensor.dtype, tensor.size, tensor.stored_size);
        printf("  %s\n", shape);
        free(shape);
    }
}

static json_t *json_listing(const listing *l)
{
    json_t *dtypes = json_array(), *tensors = json_array();
    for (size_t i = 0; i < l->dtypes_count; i++) {
        json_t *row = table_json("dtype", l->dtypes[i].dtype, l->dtypes[i].content, l->dtypes[i].stored);
        json_object_set_new(row, "tensors", json_integer((json_int_t)l->dtypes[i].tensors));
        json_array_append_new(dtypes, row);
    }
    for (uint64_t i = 0; i < l->tensors; i++) {
        const znn_safetensors_tensor tensor = tensor_at(l, i);
        json_t *row = table_json("name", tensor.name, tensor.size, tensor.stored_size), *shape = json_array();
        for (size_t k = 0; k < tensor.rank; k++)
            json_array_append_new(shape, json_integer((json_int_t)tensor.shape[k]));
        json_object_set_new(row, "dtype", json_name(tensor.dtype));
        json_object_set_new(row, "shape", shape);
        json_object_set_new(row, "compressed", json_boolean(tensor.stored_size < tensor.size));
        json_array_append_new(tensors, row);
    }
    json_t *object = table_json("file", l->source->name, l->content, l->stored);
    json_object_set_new(object, "format", json_string("safetensors"));
    json_object_set_new(object, "compressed", json_boolean(znn_safetensors_is_compressed(l->source->safetensors)));
    json_object_set_new(object, "dtypes", dtypes);
    json_object_set_new(object, "tensors", tensors);
    return object;
}

bool safetensors_list(const source_file *source, bool json, json_t *results)
{
    listing l = {.source = source, .tensors = znn_safetensors_count(source->safetensors)};
    gather(&l);
    if (json)
        json_array_append_new(results, json_listing(&l));
    else
        print_text(&l);
    return true;
}
