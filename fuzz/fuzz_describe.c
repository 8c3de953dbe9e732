/* A frame's description: from memory and through a function that may fail. */
#include "fuzz.h"

#define FRAME_CHOICES 1
#include "frame_mutator.h"

typedef struct {
    fuzz_input file;
    unsigned calls_left; /* until one fails */
} unsure_file;

static int read_unsure(void *opaque, uint64_t offset, void *dst, size_t size)
{
    unsure_file *f = opaque;
    if (f->calls_left == 0)
        return -1;
    f->calls_left--;
    return fuzz_read(&f->file, offset, dst, size);
}

static znn_status describe(znn_reader *reader, znn_frame_info *info)
{
    znn_status status = znn_reader_info(reader, info);
    if (status != ZNN_OK)
        return status;
    uint64_t content = 0;
    for (uint64_t i = 0; i < info->chunks; i++) {
        znn_chunk_info chunk;
        if ((status = znn_reader_chunk(reader, i, &chunk)) != ZNN_OK)
            return status;
        CHECK(chunk.content_offset == content && chunk.content_size <= info->chunk_max);
        CHECK(chunk.stored_offset + chunk.stored_size <= info->stored_size);
        CHECK(znn_dtype_name(chunk.dtype));
        znn_method_name(chunk.method);
        content += chunk.content_size;
    }
    CHECK(content == info->content_size && content == znn_reader_size(reader));
    return ZNN_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    unsure_file unsure = {.calls_left = fuzz_byte(&in)};
    uint8_t *copy = fuzz_alloc(in.size);
    if (in.size)
        memcpy(copy, in.data, in.size);
    unsure.file = (fuzz_input){copy, in.size};

    znn_reader *a, *b;
    znn_frame_info of_memory, of_file;
    znn_status memory = znn_reader_open(&a, copy, in.size, NULL);
    if (memory == ZNN_OK) {
        memory = describe(a, &of_memory);
        znn_reader_free(a);
    }
    znn_status file = znn_reader_open_fn(&b, read_unsure, &unsure, in.size, NULL);
    if (file == ZNN_OK) {
        file = describe(b, &of_file);
        znn_reader_free(b);
    }
    CHECK(file == memory || (file == ZNN_ERROR_IO && unsure.calls_left == 0));
    if (memory == ZNN_OK && file == ZNN_OK)
        CHECK(of_memory.chunks == of_file.chunks && of_memory.content_size == of_file.content_size &&
              of_memory.segments == of_file.segments && of_memory.frames == of_file.frames);
    free(copy);
    return 0;
}
