/* ZipNN files, in memory and through a function, and huff0 blocks. */
#include <stdlib.h>
#include <string.h>

#include "znn.h"

#include "base/cpu.h"
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

/* One block, or two at once, by the fastest loops here and by plain ones: both must make the same of them. */
static void fuzz_blocks(const uint8_t *data, size_t size)
{
    if (size < 6)
        return;
    znn_isa_level here = znn_cpu_isa();
    znn_huff0_decoder *decoder = malloc(sizeof *decoder);
    znn_huff0_block blocks[2];
    uint8_t *dst[2][2];
    unsigned count = 1 + data[4] % 2;
    size_t first = count == 1 ? size - 5 : (size - 5) * data[4] / 256;
    bool ok[2];
    for (unsigned k = 0; k < count; k++) {
        size_t dst_size = ((size_t)data[2 * k] | (size_t)data[2 * k + 1] << 8) * 2 % ZNN_HUFF0_MAX + 1;
        size_t src_size = k ? size - 5 - first : first;
        uint8_t *src = malloc(src_size ? src_size : 1);
        memcpy(src, data + 5 + (k ? first : 0), src_size);
        blocks[k] = (znn_huff0_block){NULL, dst_size, src, src_size, data[4] / 2 % 2};
        for (unsigned i = 0; i < 2; i++)
            dst[k][i] = malloc(dst_size);
    }
    for (unsigned i = 0; i < 2; i++) {
        znn_cpu_isa_use(i ? ZNN_ISA_SCALAR : here);
        for (unsigned k = 0; k < count; k++)
            blocks[k].dst = dst[k][i];
        ok[i] = znn_huff0_decode(decoder, blocks, count);
    }
    znn_cpu_isa_use(here);
    if (ok[0] != ok[1])
        abort();
    for (unsigned k = 0; k < count; k++) {
        if (ok[0] && memcmp(dst[k][0], dst[k][1], blocks[k].dst_size) != 0)
            abort();
        free((void *)(uintptr_t)blocks[k].src);
        free(dst[k][0]);
        free(dst[k][1]);
    }
    free(decoder);
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
        fuzz_blocks(data + 1, size - 1);
    else
        fuzz_file(data, size);
    return 0;
}
