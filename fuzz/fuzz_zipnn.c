/* ZipNN files, in memory and through a function, and huff0 blocks. */
#include <stdlib.h>
#include <string.h>

#include "znn.h"

#include "zipnn/huff0.h"

#define CONTENT_MAX ((uint64_t)4 << 20)

typedef struct {
    const uint8_t *data;
    size_t size;
} file;

static int read_file(void *opaque, uint64_t offset, void *dst, size_t size)
{
    const file *f = opaque;
    if (offset > f->size || size > f->size - offset)
        abort(); /* the library knows how long the file is */
    memcpy(dst, f->data + offset, size);
    return 0;
}

static void fuzz_block(const uint8_t *data, size_t size)
{
    if (size < 2)
        return;
    size_t dst_size = ((size_t)data[0] | (size_t)data[1] << 8) * 2 % ZNN_HUFF0_MAX + 1;
    uint8_t *dst = malloc(dst_size);
    znn_huff0_decoder *decoder = malloc(sizeof *decoder);
    znn_huff0_block block = {dst, dst_size, data + 2, size - 2};
    znn_huff0_decode(decoder, &block, 1);
    free(decoder);
    free(dst);
}

static void fuzz_file(const uint8_t *data, size_t size)
{
    file f = {data, size};
    znn_zipnn_reader *a = NULL, *b = NULL;
    znn_status in_memory = znn_zipnn_reader_open(&a, data, size, NULL);
    znn_status by_function = znn_zipnn_reader_open_fn(&b, read_file, &f, size, NULL);
    if (in_memory != by_function)
        abort();
    if (in_memory != ZNN_OK)
        return;
    uint64_t whole = znn_zipnn_reader_size(a);
    znn_zipnn_info info;
    znn_zipnn_part part;
    znn_zipnn_reader_info(a, &info);
    for (uint64_t i = 0; i < info.parts && i < 8; i++)
        znn_zipnn_reader_part(a, i, &part);
    if (whole && whole <= CONTENT_MAX && !info.delta) {
        uint8_t *x = malloc(whole), *y = malloc(whole);
        in_memory = znn_zipnn_reader_read(a, x, 0, whole);
        by_function = ZNN_OK;
        for (uint64_t at = 0, n; at < whole && by_function == ZNN_OK; at += n) {
            n = whole - at < 100001 ? whole - at : 100001;
            by_function = znn_zipnn_reader_read(b, y + at, at, n);
        }
        if ((in_memory == ZNN_OK) != (by_function == ZNN_OK) || (in_memory == ZNN_OK && memcmp(x, y, whole) != 0))
            abort();
        free(x);
        free(y);
    }
    znn_zipnn_reader_free(a);
    znn_zipnn_reader_free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && data[0] == 0)
        fuzz_block(data + 1, size - 1);
    else
        fuzz_file(data, size);
    return 0;
}
