/* What is compressed comes back, with any options and instruction sets, by every way in and out. */
#include "memory.h"

/* The input itself, or for several chunks the input again and again, with noise in its lower bytes. */
static uint8_t *make_content(fuzz_input *in, int level, size_t *size)
{
    unsigned stretch = fuzz_byte(in);
    uint64_t state = fuzz_byte(in);
    unsigned width = 1u << (stretch & 3);
    size_t times = stretch >= 252 ? 4096 : stretch >= 128 ? 16 : 1;
    const size_t max = level < 7 ? (size_t)5 << 17 : (size_t)5 << 18; /* a chunk and a quarter */
    *size = in->size * times < max ? in->size * times : max;
    *size -= times > 1 && *size > 7 ? state % 8 : 0;
    uint8_t *content = fuzz_alloc(*size);
    for (size_t i = 0; i < *size; i++) {
        bool noisy = times > 1 && i % width != width - 1;
        content[i] = (uint8_t)(in->data[i % in->size] ^ (noisy ? fuzz_random(&state) : 0));
    }
    return content;
}

static size_t encode_in_parts(uint8_t *dst, size_t room, const uint8_t *src, size_t size, const znn_options *options,
                              uint64_t seed, bool flush)
{
    znn_encoder *encoder;
    CHECK(znn_encoder_new(&encoder, options) == ZNN_OK);
    znn_out_buffer out = {dst, 0, 0};
    znn_in_buffer in = {src, 0, 0};
    size_t pending = 1, idle = 0;
    while (pending || in.size < size) {
        if (in.pos == in.size) {
            size_t n = 1 + fuzz_random(&seed) % (1 + size / 3);
            in.size += n < size - in.size ? n : size - in.size;
        }
        size_t more = 1 + fuzz_random(&seed) % (1 + size / 2);
        out.size = more < room - out.pos ? out.pos + more : room;
        znn_directive directive = in.size == size ? ZNN_END : flush ? ZNN_FLUSH : ZNN_CONTINUE;
        size_t before = in.pos + out.pos;
        CHECK(znn_encoder_run(encoder, &out, &in, directive, &pending) == ZNN_OK);
        idle = in.pos + out.pos == before ? idle + 1 : 0;
        CHECK(idle < 3);
    }
    znn_encoder_free(encoder);
    return out.pos;
}

static void check_decoding(const uint8_t *frame, size_t frame_size, const uint8_t *content, size_t size,
                           const znn_options *options, uint64_t seed)
{
    uint64_t n;
    CHECK(znn_content_size(frame, frame_size, &n) == ZNN_OK && n == size);
    uint8_t *back = fuzz_alloc(size);
    CHECK(znn_decompress(back, size, &n, frame, frame_size, options) == ZNN_OK && n == size);
    CHECK(memcmp(back, content, size) == 0);
    znn_reader *reader;
    CHECK(znn_reader_open(&reader, frame, frame_size, options) == ZNN_OK);
    for (int i = 0; i < 3; i++) {
        size_t from = fuzz_random(&seed) % (size + 1), count = fuzz_random(&seed) % (size - from + 1);
        CHECK(znn_reader_read(reader, back, from, count) == ZNN_OK);
        CHECK(memcmp(back, content + from, count) == 0);
    }
    znn_reader_free(reader);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    znn_options options;
    znn_options_init(&options);
    options.alloc = FUZZ_ALLOC;
    options.free = FUZZ_FREE;
    options.dtype = (znn_dtype)(fuzz_byte(&in) % ZNN_DTYPE_COUNT);
    unsigned choice = fuzz_byte(&in);
    options.level = 1 + (int)(choice % 9);
    options.checksum = choice / 9 % 4 != 0;
    options.threads = choice / 36 % 7 == 6 ? 2 : 1;
    bool flush = choice & 128, know_size = choice & 64;
    uint64_t seed = fuzz_u16(&in);
    size_t content_size;
    uint8_t *content = make_content(&in, options.level, &content_size);

    size_t bound = (size_t)znn_compress_bound(content_size);
    uint8_t *frame = fuzz_alloc(bound);
    fuzz_use_isa(seed);
    uint64_t frame_size;
    CHECK(znn_compress(frame, bound, &frame_size, content, content_size, &options) == ZNN_OK);
    fuzz_use_isa(seed >> 2);
    check_decoding(frame, frame_size, content, content_size, &options, seed);

    /* A flush ends a chunk. */
    size_t room = bound + 4096 + (flush ? content_size + 4096 : 0);
    uint8_t *streamed = fuzz_alloc(room);
    fuzz_use_isa(seed >> 4);
    options.content_size = know_size ? content_size : ZNN_SIZE_UNKNOWN;
    size_t streamed_size = encode_in_parts(streamed, room, content, content_size, &options, seed, flush);
    if (know_size && !flush)
        CHECK(streamed_size == frame_size && memcmp(streamed, frame, frame_size) == 0);
    fuzz_use_isa(seed >> 6);
    if (!know_size || flush)
        check_decoding(streamed, streamed_size, content, content_size, &options, seed);
    free(streamed);
    free(frame);
    free(content);
    return 0;
}
