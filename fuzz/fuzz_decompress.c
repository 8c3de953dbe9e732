/* Any bytes, decompressed in one go, through a stream, and by ranges, with any instruction sets: the three agree. */
#include "memory.h"

#define FRAME_CHOICES 4
#include "frame_mutator.h"

#define CONTENT_MAX ((size_t)5 << 20)

/* Success is content_size bytes at dst; what would be longer than `room` is none. */
static bool by_stream(uint8_t *dst, size_t room, size_t *content_size, fuzz_input frame, const znn_options *options,
                      uint64_t seed)
{
    znn_decoder *decoder;
    CHECK(znn_decoder_new(&decoder, options) == ZNN_OK);
    size_t taken = 0, produced = 0, out_size = 0, in_size = 0;
    uint8_t *in_part = NULL, *out_part = NULL;
    int ended = 0;
    bool ok = true;
    while (ok) {
        if (!in_part) {
            in_size = 1 + fuzz_random(&seed) % (fuzz_random(&seed) % 4 ? 3000 : 30);
            in_size = in_size < frame.size - taken ? in_size : frame.size - taken;
            in_part = fuzz_alloc(in_size);
            memcpy(in_part, frame.data + taken, in_size);
        }
        out_size = 1 + fuzz_random(&seed) % (fuzz_random(&seed) % 4 ? 1 << 20 : 100);
        out_part = fuzz_alloc(out_size);
        znn_in_buffer in = {in_part, in_size, 0};
        znn_out_buffer out = {out_part, out_size, 0};
        znn_status status = znn_decoder_run(decoder, &out, &in, &ended);
        CHECK(in.pos <= in.size && out.pos <= out.size);
        ok = status == ZNN_OK && out.pos <= room - produced;
        if (ok && out.pos)
            memcpy(dst + produced, out_part, out.pos);
        produced += ok ? out.pos : 0;
        taken += in.pos;
        bool stalled = in.pos == 0 && out.pos == 0;
        free(out_part);
        free(in_part);
        in_part = NULL;
        if (!ok || (taken == frame.size && (ended || out.pos < out_size)))
            break;
        CHECK(!stalled); /* or it would take for ever */
    }
    uint64_t at_input, at_content;
    znn_decoder_position(decoder, &at_input, &at_content);
    CHECK(at_input <= frame.size);
    znn_decoder_free(decoder);
    *content_size = produced;
    return ok && ended && taken == frame.size;
}

static bool by_ranges(uint8_t *dst, size_t size, fuzz_input frame, bool by_function, const znn_options *options,
                      uint64_t seed)
{
    znn_reader *reader;
    znn_status status = by_function ? znn_reader_open_fn(&reader, fuzz_read, &frame, frame.size, options)
                                    : znn_reader_open(&reader, frame.data, frame.size, options);
    if (status != ZNN_OK)
        return false;
    bool ok = znn_reader_size(reader) == size;
    size_t step = 1 + size / (1 + fuzz_random(&seed) % 4);
    for (size_t at = 0; ok && at < size; at += step) {
        size_t n = size - at < step ? size - at : step;
        uint8_t *part = fuzz_alloc(n);
        ok = znn_reader_read(reader, part, at, n) == ZNN_OK;
        if (ok)
            memcpy(dst + at, part, n);
        free(part);
    }
    CHECK(znn_reader_read(reader, NULL, size + 1, 1) != ZNN_OK);
    znn_reader_free(reader);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input frame = {data, size};
    znn_options options;
    znn_options_init(&options);
    options.alloc = FUZZ_ALLOC;
    options.free = FUZZ_FREE;
    unsigned choice = fuzz_byte(&frame);
    options.checksum = choice % 2;
    options.threads = choice / 2 % 8 == 7 ? 2 : 1;
    bool limited = choice / 16 % 8 == 7;
    options.memory_limit = limited ? 1 << 19 : options.memory_limit;
    uint64_t seed = fuzz_u16(&frame) | (uint64_t)fuzz_byte(&frame) << 16;
    uint8_t *copy = fuzz_alloc(frame.size);
    if (frame.size)
        memcpy(copy, frame.data, frame.size);
    frame.data = copy;

    uint64_t claimed, whole_size;
    znn_status sized = znn_content_size(copy, frame.size, &claimed);
    if (sized == ZNN_OK && claimed > CONTENT_MAX)
        goto end;
    size_t room = sized == ZNN_OK ? (size_t)claimed : 1 << 16;
    uint8_t *whole = fuzz_alloc(room), *streamed = fuzz_alloc(room), *ranged = fuzz_alloc(room);
    fuzz_use_isa(seed);
    bool ok = znn_decompress(whole, room, &whole_size, copy, frame.size, &options) == ZNN_OK;
    if (ok)
        CHECK(sized == ZNN_OK && whole_size == claimed);
    fuzz_use_isa(seed >> 2);
    size_t streamed_size;
    bool stream_ok = by_stream(streamed, room, &streamed_size, frame, &options, seed);
    CHECK(stream_ok == ok);
    if (ok)
        CHECK(streamed_size == room && memcmp(streamed, whole, room) == 0);
    if (sized == ZNN_OK) {
        /* It need not see what is wrong with the whole. */
        fuzz_use_isa(seed >> 4);
        bool ranges_ok = by_ranges(ranged, room, frame, choice & 1, &options, seed);
        CHECK(ranges_ok || !ok);
        if (ok)
            CHECK(memcmp(ranged, whole, room) == 0);
    }
    free(ranged);
    free(streamed);
    free(whole);
end:
    free(copy);
    return 0;
}
