#include "tensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

#define HEADER_MAX ((uint64_t)8 << 20)
#define VALUES_MAX 200000 /* so that parsing takes no more than some 34 MB */

static char *copy_of(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(allocate(size), text, size);
}

static int by_place(const void *a, const void *b)
{
    const tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* False if the entry is not that of a tensor inside the content. */
static bool read_entry(tensor *t, const char *name, json_t *entry, uint64_t data, uint64_t content_size)
{
    json_t *dtype = json_object_get(entry, "dtype");
    json_t *offsets = json_object_get(entry, "data_offsets");
    json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!json_is_string(dtype) || !json_is_integer(begin) || !json_is_integer(end))
        return false;
    json_int_t first = json_integer_value(begin), last = json_integer_value(end);
    if (first < 0 || last < first || (uint64_t)last > content_size - data)
        return false;
    *t = (tensor){copy_of(name), copy_of(json_string_value(dtype)), data + (uint64_t)first, data + (uint64_t)last};
    return true;
}

static tensor_list parse(json_t *root, uint64_t data, uint64_t content_size)
{
    tensor_list list = {allocate((json_object_size(root) + 1) * sizeof *list.items), 0};
    const char *name;
    json_t *entry;
    bool sound = true;
    json_object_foreach(root, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        sound = sound && read_entry(&list.items[list.count], name, entry, data, content_size);
        if (!sound)
            break;
        list.count++;
    }
    if (list.count)
        qsort(list.items, list.count, sizeof *list.items, by_place);
    for (size_t i = 1; i < list.count; i++)
        sound = sound && list.items[i - 1].end <= list.items[i].begin;
    if (!sound)
        tensors_free(&list);
    return list;
}

/* At least as many as the JSON has values. */
static size_t count_values(const char *json, size_t size)
{
    size_t values = 0;
    for (size_t i = 0; i < size; i++)
        values += json[i] == ',' || json[i] == '[' || json[i] == '{';
    return values;
}

tensor_list tensors_read(znn_reader *reader)
{
    tensor_list none = {NULL, 0};
    uint8_t start[9];
    uint64_t size = znn_reader_size(reader), header_size = 0;
    if (size < sizeof start || znn_reader_read(reader, start, 0, sizeof start) != ZNN_OK || start[8] != '{')
        return none;
    for (unsigned i = 8; i-- > 0;)
        header_size = header_size << 8 | start[i];
    if (header_size > HEADER_MAX || header_size > size - 8)
        return none;
    char *header = allocate((size_t)header_size);
    json_t *root = NULL;
    if (znn_reader_read(reader, header, 8, header_size) == ZNN_OK &&
        count_values(header, (size_t)header_size) <= VALUES_MAX)
        root = json_loadb(header, (size_t)header_size, JSON_REJECT_DUPLICATES, NULL);
    free(header);
    tensor_list list = json_is_object(root) ? parse(root, 8 + header_size, size) : none;
    json_decref(root);
    return list;
}

void tensors_free(tensor_list *tensors)
{
    for (size_t i = 0; i < tensors->count; i++) {
        free(tensors->items[i].name);
        free(tensors->items[i].dtype);
    }
    free(tensors->items);
    *tensors = (tensor_list){NULL, 0};
}
