/* What is written as ZipNN's streams comes back, with any options. */
#include "memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    znn_zipnn_options options;
    znn_zipnn_options_init(&options);
    options.alloc = FUZZ_ALLOC;
    options.free = FUZZ_FREE;
    options.dtype = (znn_dtype)(fuzz_byte(&in) % ZNN_DTYPE_COUNT);
    unsigned choice = fuzz_byte(&in), sizes = fuzz_byte(&in);
    options.method = (int)(choice % 5);
    options.threshold = choice / 5 % 2 ? 0.95 : 1.5;
    options.chunk = (uint64_t)4096 << sizes % 8;
    options.streaming_chunk = sizes / 8 % 2 ? (uint64_t)4096 << sizes / 16 % 8 : 0;
    const uint64_t shape[2] = {in.size, 1};
    if (choice / 10 % 3 == 2) {
        options.input = ZNN_ZIPNN_TORCH;
        options.shape = shape;
        options.dimensions = 1 + choice % 2;
    }
    uint64_t state = fuzz_byte(&in);
    size_t times = choice & 128 ? 64 : 1, n = in.size * times < 600000 ? in.size * times : 600000;
    uint8_t *content = fuzz_alloc(n), *base = fuzz_alloc(n);
    for (size_t i = 0; i < n; i++) {
        content[i] = (uint8_t)(in.data[i % in.size] ^ (times > 1 && i % 2 ? fuzz_random(&state) : 0));
        base[i] = (uint8_t)(content[i] ^ (i % 7 ? 0 : 1));
    }
    znn_options back_options;
    znn_options_init(&back_options);
    back_options.alloc = FUZZ_ALLOC;
    back_options.free = FUZZ_FREE;
    if (choice / 30 % 4 == 3) {
        options.base = back_options.base = base;
        options.base_size = back_options.base_size = n;
    }
    uint64_t bound = znn_zipnn_bound(n, &options), packed_size, back_size, claimed;
    fuzz_use_isa(state);
    if (bound) {
        uint8_t *packed = fuzz_alloc((size_t)bound), *back = fuzz_alloc(n);
        znn_status status = znn_zipnn_compress(packed, bound, &packed_size, content, n, &options);
        CHECK(status != ZNN_ERROR_DST_TOO_SMALL && status != ZNN_ERROR_MEMORY);
        if (status == ZNN_OK) {
            CHECK(znn_zipnn_content_size(packed, packed_size, &claimed) == ZNN_OK && claimed == n);
            fuzz_use_isa(state >> 2);
            CHECK(znn_zipnn_decompress(back, n, &back_size, packed, packed_size, &back_options) == ZNN_OK);
            CHECK(back_size == n && memcmp(back, content, n) == 0);
        }
        free(back);
        free(packed);
    }
    free(base);
    free(content);
    return 0;
}
