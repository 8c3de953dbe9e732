/* Headers of safetensors files, as a stream's plan reads them: the input is the JSON. */
#include "fuzz.h"

#include "base/base.h"
#include "formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *file = fuzz_alloc(size + 8);
    znn_store64(file, size);
    if (size)
        memcpy(file + 8, data, size);
    size_t header = znn_safetensors_header_size(file, size + 8);
    CHECK(header == 0 || header == size + 8);
    if (header) {
        znn_allocator allocator = znn_allocator_from(NULL);
        znn_safetensors_entry *entries = NULL;
        size_t count = 0;
        if (znn_safetensors_parse(file, header, &allocator, &entries, &count) == ZNN_OK) {
            CHECK(count > 0 && entries[0].end >= header);
            for (size_t i = 0; i < count; i++) {
                CHECK(znn_dtype_size(entries[i].dtype) > 0);
                CHECK(i == 0 || entries[i].end > entries[i - 1].end);
            }
            znn_dealloc(&allocator, entries);
        }
        znn_safetensors_is_dense(file + 8, size);
    }
    free(file);
    return 0;
}
