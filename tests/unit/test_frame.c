/* Frames: one shot, streams, random access, and what damage does to them. */
#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "frame/layout.h"
#include "znn.h"

#define CHUNK_MAX ((size_t)1 << znn_chunk_log_for_level(ZNN_LEVEL_DEFAULT))

/* ---- what the tests compress ---- */

static uint32_t random_state = 1;

static uint32_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

/* A size from 1 to `most`, but no more than `left`. */
static size_t random_part(size_t left, size_t most)
{
    size_t n = 1 + next_random() % most;
    return n < left ? n : left;
}

/* Like weights: bf16 values of few exponents; `size` need not be even. */
static uint8_t *make_weights(size_t size, uint32_t seed)
{
    uint8_t *p = malloc(size + 1);
    assert_non_null(p);
    random_state = seed * 2654435761u + 1;
    for (size_t i = 0; i + 1 < size; i += 2) {
        uint32_t r = next_random();
        uint32_t exponent = 120u - (uint32_t)__builtin_ctz(r | 0x100);
        uint32_t value = (r >> 31) << 15 | exponent << 7 | ((r >> 12) & 127);
        p[i] = (uint8_t)value;
        p[i + 1] = (uint8_t)(value >> 8);
    }
    if (size & 1)
        p[size - 1] = (uint8_t)seed;
    return p;
}

static uint8_t *make_noise(size_t size, uint32_t seed)
{
    uint8_t *p = malloc(size + 1);
    assert_non_null(p);
    random_state = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++)
        p[i] = (uint8_t)(next_random() >> 11);
    return p;
}

static znn_options options_of(znn_dtype dtype, int level, int threads)
{
    znn_options o;
    znn_options_init(&o);
    o.dtype = dtype;
    o.level = level;
    o.threads = threads;
    return o;
}

typedef struct {
    uint8_t *bytes;
    size_t size;
} buffer;

static buffer compress(const uint8_t *src, size_t size, const znn_options *options)
{
    buffer b;
    uint64_t bound = znn_compress_bound(size), n = 0;
    b.bytes = malloc((size_t)bound);
    assert_non_null(b.bytes);
    assert_int_equal(znn_compress(b.bytes, bound, &n, src, size, options), ZNN_OK);
    assert_true(n <= bound);
    b.size = (size_t)n;
    return b;
}

/* Decompress from a buffer of exactly the frame's size, so that a sanitizer sees any step over it. */
static void assert_decompresses(const uint8_t *frame, size_t frame_size, const uint8_t *expected, size_t size,
                                const znn_options *options)
{
    uint8_t *src = malloc(frame_size), *dst = malloc(size ? size : 1);
    uint64_t n = 0, content = 0;
    assert_non_null(src);
    assert_non_null(dst);
    memcpy(src, frame, frame_size);
    assert_int_equal(znn_content_size(src, frame_size, &content), ZNN_OK);
    assert_int_equal(content, size);
    assert_int_equal(znn_decompress(dst, size, &n, src, frame_size, options), ZNN_OK);
    assert_int_equal(n, size);
    if (size)
        assert_memory_equal(dst, expected, size);
    free(src);
    free(dst);
}

/* ---- streams ---- */

/* Compress in pieces of random sizes up to `most`, flushing at `flush_at` (SIZE_MAX: never). */
static buffer stream_compress(const uint8_t *src, size_t size, const znn_options *options, size_t most,
                              size_t flush_at)
{
    znn_encoder *e;
    buffer b;
    size_t room = (size_t)znn_compress_bound(size) + 65536, given = 0, pending = 1;
    b.bytes = malloc(room);
    b.size = 0;
    assert_non_null(b.bytes);
    assert_int_equal(znn_encoder_new(&e, options), ZNN_OK);
    do {
        size_t end = given < flush_at ? ZNN_MIN(size, flush_at) : size;
        size_t n = random_part(end - given, most);
        uint8_t *part = malloc(n ? n : 1); /* a copy that goes away: nothing may keep a pointer to it */
        assert_non_null(part);
        memcpy(part, src + given, n);
        znn_in_buffer in = {part, n, 0};
        given += n;
        znn_directive directive = given == size ? ZNN_END : given == flush_at ? ZNN_FLUSH : ZNN_CONTINUE;
        do {
            znn_out_buffer out = {b.bytes + b.size, random_part(room - b.size, most), 0};
            assert_int_equal(znn_encoder_run(e, &out, &in, directive, &pending), ZNN_OK);
            b.size += out.pos;
            assert_true(b.size < room);
        } while (in.pos < in.size || (directive != ZNN_CONTINUE && pending));
        free(part);
    } while (given < size);
    znn_encoder_free(e);
    return b;
}

/* Decompress what may be several frames, in pieces of random sizes; the first error, or TRUNCATED. */
static znn_status stream_decompress(const uint8_t *src, size_t src_size, const znn_options *options, size_t most,
                                    uint8_t *dst, size_t room, size_t *dst_size)
{
    znn_decoder *d;
    znn_status status = ZNN_OK;
    size_t given = 0;
    int ended = 0;
    *dst_size = 0;
    assert_int_equal(znn_decoder_new(&d, options), ZNN_OK);
    for (size_t idle = 0; status == ZNN_OK && idle < 3;) {
        size_t n = random_part(src_size - given, most);
        size_t m = random_part(room - *dst_size, most);
        uint8_t *part = malloc(n ? n : 1), *to = malloc(m ? m : 1);
        assert_non_null(part);
        assert_non_null(to);
        memcpy(part, src + given, n);
        znn_in_buffer in = {part, n, 0};
        znn_out_buffer out = {to, m, 0};
        int now = 0;
        status = znn_decoder_run(d, &out, &in, &now);
        memcpy(dst + *dst_size, to, out.pos);
        given += in.pos;
        *dst_size += out.pos;
        if (now || in.pos)
            ended = now;
        idle = in.pos || out.pos || now ? 0 : idle + 1;
        free(part);
        free(to);
        if (ended && given == src_size)
            break;
    }
    znn_decoder_free(d);
    return status != ZNN_OK ? status : ended ? ZNN_OK : ZNN_ERROR_TRUNCATED;
}

static void assert_streams_back(buffer frame, const uint8_t *expected, size_t size, int threads, size_t most)
{
    znn_options o = options_of(ZNN_AUTO, ZNN_LEVEL_DEFAULT, threads);
    uint8_t *dst = malloc(size + 1);
    size_t n;
    assert_non_null(dst);
    assert_int_equal(stream_decompress(frame.bytes, frame.size, &o, most, dst, size + 1, &n), ZNN_OK);
    assert_int_equal(n, size);
    if (size)
        assert_memory_equal(dst, expected, size);
    free(dst);
}

/* ---- one shot ---- */

static const size_t sizes[] = {0, 1, 2, 3, 7, 8, 63, 64, 65, 4095, 65535, 65536, 65537,
                               262143, 262144, 262145, 1500001};
#define SIZES (sizeof sizes / sizeof *sizes)

static void any_size_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        uint8_t *weights = make_weights(sizes[i], (uint32_t)i), *noise = make_noise(sizes[i], (uint32_t)i);
        uint8_t *zeros = calloc(1, sizes[i] + 1);
        const uint8_t *all[] = {weights, noise, zeros};
        for (unsigned k = 0; k < 3; k++) {
            buffer b = compress(all[k], sizes[i], NULL);
            assert_decompresses(b.bytes, b.size, all[k], sizes[i], NULL);
            free(b.bytes);
        }
        free(weights);
        free(noise);
        free(zeros);
    }
}

static void any_dtype_and_level_comes_back(void **state)
{
    (void)state;
    const size_t size = 300007; /* more than a chunk, and no whole number of elements */
    uint8_t *src = make_weights(size, 5);
    static const int levels[] = {1, 3, 9};
    for (int dtype = ZNN_AUTO; dtype < ZNN_DTYPE_COUNT; dtype++)
        for (unsigned k = 0; k < 3; k++) {
            znn_options o = options_of((znn_dtype)dtype, levels[k], 1);
            buffer b = compress(src, size, &o);
            assert_decompresses(b.bytes, b.size, src, size, NULL);
            free(b.bytes);
        }
    free(src);
}

static void without_checksums_it_comes_back(void **state)
{
    (void)state;
    uint8_t *src = make_weights(400000, 9);
    znn_options o = options_of(ZNN_BF16, 3, 1);
    o.checksum = 0;
    buffer b = compress(src, 400000, &o);
    assert_decompresses(b.bytes, b.size, src, 400000, NULL);
    assert_int_equal(znn_load64(b.bytes + ZNN_HEADER_SIZE + 12), 0);
    free(b.bytes);
    free(src);
}

static void threads_do_not_change_the_bytes(void **state)
{
    (void)state;
    const size_t size = 5000003;
    uint8_t *src = make_weights(size, 3);
    memset(src + 1000000, 0, 900000); /* chunks that take unequal time */
    znn_options one = options_of(ZNN_BF16, 3, 1), four = options_of(ZNN_BF16, 3, 4);
    buffer a = compress(src, size, &one), b = compress(src, size, &four);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.bytes, b.bytes, a.size);
    assert_true(a.size < size * 8 / 10);
    assert_decompresses(a.bytes, a.size, src, size, &four);
    assert_streams_back(a, src, size, 4, 1000000);
    free(a.bytes);
    free(b.bytes);
    free(src);
}

static void large_content_comes_back(void **state)
{
    (void)state;
    const size_t size = (9u << 20) + 77; /* beyond where stores bypass the caches */
    uint8_t *src = make_weights(size, 31);
    for (int threads = 1; threads <= 3; threads += 2) {
        znn_options o = options_of(ZNN_BF16, 3, threads);
        buffer b = compress(src, size, &o);
        assert_decompresses(b.bytes, b.size, src, size, &o);
        free(b.bytes);
    }
    free(src);
}

static void a_short_destination_is_refused(void **state)
{
    (void)state;
    uint8_t *src = make_weights(100000, 2), *dst = malloc(100000);
    buffer b = compress(src, 100000, NULL);
    uint64_t n;
    assert_int_equal(znn_decompress(dst, 99999, &n, b.bytes, b.size, NULL), ZNN_ERROR_DST_TOO_SMALL);
    uint8_t *small = malloc(b.size); /* exactly sized, for the sanitizer */
    for (size_t capacity = 0; capacity < b.size; capacity += 1 + capacity / 4) {
        uint8_t *exact = malloc(capacity ? capacity : 1);
        assert_int_equal(znn_compress(exact, capacity, &n, src, 100000, NULL), ZNN_ERROR_DST_TOO_SMALL);
        free(exact);
    }
    assert_int_equal(znn_compress(small, b.size - 1, &n, src, 100000, NULL), ZNN_ERROR_DST_TOO_SMALL);
    assert_int_equal(znn_compress(small, b.size, &n, src, 100000, NULL), ZNN_OK);
    assert_int_equal(n, b.size);
    free(small);
    free(dst);
    free(src);
    free(b.bytes);
}

static void noise_grows_by_less_than_a_thousandth(void **state)
{
    (void)state;
    const size_t size = 3u << 20;
    uint8_t *src = make_noise(size, 4);
    for (int dtype = ZNN_AUTO; dtype < ZNN_DTYPE_COUNT; dtype++) {
        znn_options o = options_of((znn_dtype)dtype, 3, 1);
        buffer b = compress(src, size, &o);
        assert_true(b.size < size + size / 1000);
        free(b.bytes);
    }
    free(src);
}

/* A safetensors file of tensors of a byte, a byte apart, in no order: every tensor
 * and every gap is a chunk, and no compressor makes much of the header. */
static void the_bound_holds_for_tiny_tensors(void **state)
{
    (void)state;
    enum { TENSORS = 10000 };
    static unsigned order[TENSORS];
    char *file = malloc(8 + TENSORS * 80);
    assert_non_null(file);
    random_state = 77;
    for (unsigned i = 0; i < TENSORS; i++) {
        unsigned k = next_random() % (i + 1);
        order[i] = order[k];
        order[k] = i;
    }
    size_t at = 8;
    for (unsigned i = 0; i < TENSORS; i++) {
        const unsigned t = order[i], name = next_random() % 8;
        at += (size_t)sprintf(file + at, "%c\"%x%c\":", i ? ',' : '{', i, "abcdefgh"[name]);
        if (next_random() & 1)
            at += (size_t)sprintf(file + at, "{\"dtype\":\"U8\",\"data_offsets\":[%u,%u]}", 2 * t, 2 * t + 1);
        else
            at += (size_t)sprintf(file + at, "{\"data_offsets\":[%u,%u],\"dtype\":\"U8\"}", 2 * t, 2 * t + 1);
    }
    file[at++] = '}';
    znn_store64(file, at - 8);
    for (unsigned i = 0; i < 2 * TENSORS; i++)
        file[at++] = (char)next_random();
    for (int level = 1; level <= 9; level += 4) {
        znn_options o = options_of(ZNN_AUTO, level, 1);
        buffer b = compress((uint8_t *)file, at, &o);
        assert_decompresses(b.bytes, b.size, (uint8_t *)file, at, NULL);
        free(b.bytes);
    }
    free(file);
}

static void the_bound_saturates(void **state)
{
    (void)state;
    assert_true(znn_compress_bound(UINT64_MAX) == UINT64_MAX);
    assert_true(znn_compress_bound(UINT64_MAX - 5) == UINT64_MAX);
    assert_true(znn_compress_bound(0) >= ZNN_HEADER_SIZE + ZNN_END_HEADER_SIZE + ZNN_TRAILER_SIZE);
}

static void an_empty_frame_is_as_written_down(void **state)
{
    (void)state;
    /* By hand from docs/FORMAT.md, with checksums of "no content at all". */
    uint8_t expected[88] = {0x89, 'Z', 'N', 'N', 1};
    expected[5] = (uint8_t)znn_chunk_log_for_level(ZNN_LEVEL_DEFAULT);
    expected[6] = 3;
    znn_store32(expected + 28, (uint32_t)znn_hash(expected, 28));
    expected[32] = 2;
    znn_store64(expected + 40 + 16, UINT64_C(0x2D06800538D394C2)); /* XXH3-64 of nothing, by its specification */
    znn_store64(expected + 40 + 24, sizeof expected);
    znn_store32(expected + 80, (uint32_t)znn_hash(expected + 32, 48));
    memcpy(expected + 84, "ZNN\x89", 4);
    buffer b = compress(NULL, 0, NULL);
    assert_int_equal(b.size, sizeof expected);
    assert_memory_equal(b.bytes, expected, sizeof expected);
    free(b.bytes);
}

static void only_frames_are_frames(void **state)
{
    (void)state;
    buffer b = compress((const uint8_t *)"abc", 3, NULL);
    assert_int_equal(znn_is_frame(b.bytes, b.size), 1);
    assert_int_equal(znn_is_frame(b.bytes, 4), 1);
    assert_int_equal(znn_is_frame(b.bytes, 3), 0);
    assert_int_equal(znn_is_frame("\x28\xb5\x2f\xfd....", 8), 0);
    assert_int_equal(znn_is_frame(NULL, 0), 0);
    uint64_t n;
    assert_int_equal(znn_content_size("not a frame, but long enough to be one of them, if it only began as one does."
                                      " So much for that.",
                                      95, &n),
                     ZNN_ERROR_FORMAT);
    assert_int_equal(znn_content_size(NULL, 0, &n), ZNN_ERROR_TRUNCATED);
    free(b.bytes);
}

static void frames_that_follow_one_another_are_one_content(void **state)
{
    (void)state;
    static const size_t parts[] = {0, 300000, 0, 0, 1, 70000, 0};
    uint8_t *src = make_weights(370001, 8), *all = malloc(500000);
    size_t size = 0, at = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        znn_options o = options_of(i & 1 ? ZNN_BF16 : ZNN_BYTES, i & 2 ? 1 : 9, 1);
        buffer b = compress(src + at, parts[i], &o);
        memcpy(all + size, b.bytes, b.size);
        size += b.size;
        at += parts[i];
        free(b.bytes);
    }
    assert_decompresses(all, size, src, at, NULL);
    buffer b = {all, size};
    assert_streams_back(b, src, at, 1, 5000);
    assert_streams_back(b, src, at, 3, 100000);

    znn_reader *r;
    znn_frame_info info;
    assert_int_equal(znn_reader_open(&r, all, size, NULL), ZNN_OK);
    assert_int_equal(znn_reader_info(r, &info), ZNN_OK);
    assert_int_equal(info.frames, sizeof parts / sizeof *parts);
    assert_int_equal(info.content_size, at);
    uint8_t ends[3];
    assert_int_equal(znn_reader_read(r, ends, 299999, 3), ZNN_OK);
    assert_memory_equal(ends, src + 299999, 3);
    uint64_t content = 0;
    for (uint64_t i = 0; i < info.chunks; i++) {
        znn_chunk_info c;
        assert_int_equal(znn_reader_chunk(r, i, &c), ZNN_OK);
        assert_int_equal(c.content_offset, content);
        content += c.content_size;
    }
    assert_int_equal(content, at);
    znn_reader_free(r);
    free(all);
    free(src);
}

/* ---- streams ---- */

static void streams_give_the_bytes_of_one_shot(void **state)
{
    (void)state;
    static const size_t mosts[] = {1000, 70000, 3000000};
    static const int thread_counts[] = {1, 2, 5};
    for (size_t i = 0; i < SIZES; i++) {
        uint8_t *src = make_weights(sizes[i], (uint32_t)i + 40);
        for (unsigned k = 0; k < 3; k++)
            for (int dtype = ZNN_AUTO; dtype <= ZNN_BF16; dtype += ZNN_BF16) {
                znn_options o = options_of((znn_dtype)dtype, 3, thread_counts[(i + k) % 3]);
                o.content_size = sizes[i];
                buffer a = compress(src, sizes[i], &o);
                buffer b = stream_compress(src, sizes[i], &o, mosts[k], SIZE_MAX);
                assert_int_equal(a.size, b.size);
                assert_memory_equal(a.bytes, b.bytes, a.size);
                assert_streams_back(b, src, sizes[i], thread_counts[k], mosts[(k + i) % 3]);
                free(a.bytes);
                free(b.bytes);
            }
        free(src);
    }
}

static void one_byte_at_a_time_is_enough(void **state)
{
    (void)state;
    uint8_t *src = make_weights(3001, 6);
    znn_options o = options_of(ZNN_BF16, 3, 1);
    buffer b = stream_compress(src, 3001, &o, 1, SIZE_MAX);
    assert_streams_back(b, src, 3001, 1, 1);
    assert_streams_back(b, src, 3001, 2, 1);
    assert_decompresses(b.bytes, b.size, src, 3001, NULL);
    free(b.bytes);
    free(src);
}

static void what_was_flushed_can_be_decoded(void **state)
{
    (void)state;
    uint8_t *src = make_weights(700001, 12);
    for (int threads = 1; threads <= 3; threads += 2) {
        znn_options o = options_of(ZNN_AUTO, 3, threads);
        znn_encoder *e;
        znn_decoder *d;
        assert_int_equal(znn_encoder_new(&e, &o), ZNN_OK);
        o.threads = 1;
        assert_int_equal(znn_decoder_new(&d, &o), ZNN_OK);
        uint8_t *frame = malloc(800000), *back = malloc(700001);
        size_t pending;
        znn_in_buffer in = {src, 700001, 0};
        znn_out_buffer out = {frame, 800000, 0};
        znn_in_buffer stored = {frame, 0, 0};
        znn_out_buffer content = {back, 700001, 0};
        static const size_t stops[] = {1, 1, 1000, 400001, 700001};
        for (size_t i = 0; i < 5; i++) {
            in.size = stops[i];
            assert_int_equal(znn_encoder_run(e, &out, &in, ZNN_FLUSH, &pending), ZNN_OK);
            assert_int_equal(pending, 0);
            stored.size = out.pos;
            assert_int_equal(znn_decoder_run(d, &content, &stored, NULL), ZNN_OK);
            assert_int_equal(content.pos, stops[i]);
        }
        assert_memory_equal(back, src, 700001);
        assert_int_equal(znn_encoder_run(e, &out, &in, ZNN_END, &pending), ZNN_OK);
        assert_int_equal(pending, 0);
        stored.size = out.pos;
        int ended;
        assert_int_equal(znn_decoder_run(d, &content, &stored, &ended), ZNN_OK);
        assert_int_equal(ended, 1);
        znn_encoder_free(e);
        znn_decoder_free(d);
        free(frame);
        free(back);
        /* And with little room, where a flush takes many calls. */
        o.threads = threads;
        buffer b = stream_compress(src, 700001, &o, 20000, 300000);
        assert_decompresses(b.bytes, b.size, src, 700001, NULL);
        free(b.bytes);
    }
    free(src);
}

static void an_encoder_writes_frame_after_frame(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        uint8_t *src = make_weights(600000, 14), *frames = malloc(1300000);
        znn_options o = options_of(ZNN_BF16, 3, threads);
        znn_encoder *e;
        size_t pending;
        znn_out_buffer out = {frames, 1300000, 0};
        assert_int_equal(znn_encoder_new(&e, &o), ZNN_OK);
        for (int i = 0; i < 2; i++) {
            znn_in_buffer in = {src, 600000, 0};
            assert_int_equal(znn_encoder_run(e, &out, &in, ZNN_END, &pending), ZNN_OK);
            assert_int_equal(pending, 0);
        }
        znn_encoder_free(e);
        assert_int_equal(out.pos % 2, 0);
        assert_memory_equal(frames, frames + out.pos / 2, out.pos / 2);
        assert_decompresses(frames, out.pos / 2, src, 600000, NULL);
        free(frames);
        free(src);
    }
}

static void a_wrong_content_size_is_an_error(void **state)
{
    (void)state;
    uint8_t *src = make_weights(1000, 2), dst[3000];
    static const uint64_t wrong[] = {0, 999, 1001, UINT64_MAX - 1};
    for (size_t i = 0; i < 4; i++) {
        znn_options o = options_of(ZNN_BF16, 3, 1);
        o.content_size = wrong[i];
        znn_encoder *e;
        znn_in_buffer in = {src, 1000, 0};
        znn_out_buffer out = {dst, sizeof dst, 0};
        assert_int_equal(znn_encoder_new(&e, &o), ZNN_OK);
        assert_int_equal(znn_encoder_run(e, &out, &in, ZNN_END, NULL), ZNN_ERROR_ARGUMENT);
        assert_int_equal(znn_encoder_run(e, &out, &in, ZNN_END, NULL), ZNN_ERROR_ARGUMENT); /* final */
        znn_encoder_free(e);
    }
    free(src);
}

static void the_memory_limit_is_kept(void **state)
{
    (void)state;
    uint8_t *src = make_weights(1000, 2), dst[1000];
    buffer b = compress(src, 1000, NULL);
    uint64_t n;
    size_t m;
    znn_options o = options_of(ZNN_AUTO, 3, 1);
    o.memory_limit = 4 * CHUNK_MAX - 1;
    assert_int_equal(znn_decompress(dst, 1000, &n, b.bytes, b.size, &o), ZNN_ERROR_LIMIT);
    assert_int_equal(stream_decompress(b.bytes, b.size, &o, 100, dst, 1000, &m), ZNN_ERROR_LIMIT);
    o.memory_limit = 4 * CHUNK_MAX;
    assert_int_equal(znn_decompress(dst, 1000, &n, b.bytes, b.size, &o), ZNN_OK);
    assert_int_equal(stream_decompress(b.bytes, b.size, &o, 100, dst, 1000, &m), ZNN_OK);
    free(b.bytes);
    free(src);
}

/* ---- random access ---- */

static int read_memory(void *opaque, uint64_t offset, void *dst, size_t size)
{
    const buffer *b = opaque;
    if (offset > b->size || size > b->size - offset)
        return 1;
    memcpy(dst, b->bytes + offset, size);
    return 0;
}

static int read_nothing(void *opaque, uint64_t offset, void *dst, size_t size)
{
    (void)opaque;
    (void)offset;
    (void)dst;
    (void)size;
    return 1;
}

static void any_range_can_be_read(void **state)
{
    (void)state;
    const size_t size = 1300001;
    uint8_t *src = make_weights(size, 21), *dst = malloc(size);
    znn_options o = options_of(ZNN_AUTO, 3, 1);
    buffer b = compress(src, size, &o);
    for (int mode = 0; mode < 4; mode++) {
        znn_reader *r;
        o.threads = mode & 2 ? 3 : 1;
        assert_int_equal(mode & 1 ? znn_reader_open_fn(&r, read_memory, &b, b.size, &o)
                                  : znn_reader_open(&r, b.bytes, b.size, &o),
                         ZNN_OK);
        assert_int_equal(znn_reader_size(r), size);
        for (int i = 0; i < 60; i++) {
            size_t offset = next_random() % (size + 1), n = next_random() % (size - offset + 1);
            if (i % 3 == 1)
                n %= 300;
            if (i % 3 == 2)
                {
                offset -= offset % CHUNK_MAX;
                n = ZNN_MIN(CHUNK_MAX, size - offset);
            }
            memset(dst, 0x55, size);
            assert_int_equal(znn_reader_read(r, dst, offset, n), ZNN_OK);
            if (n)
                assert_memory_equal(dst, src + offset, n);
            if (n < size)
                assert_int_equal(dst[n], 0x55);
        }
        assert_int_equal(znn_reader_read(r, dst, size, 0), ZNN_OK);
        assert_int_equal(znn_reader_read(r, dst, size, 1), ZNN_ERROR_ARGUMENT);
        assert_int_equal(znn_reader_read(r, dst, 1, size), ZNN_ERROR_ARGUMENT);
        assert_int_equal(znn_reader_read(r, dst, UINT64_MAX, 2), ZNN_ERROR_ARGUMENT);
        assert_int_equal(znn_reader_read(r, dst, 2, UINT64_MAX), ZNN_ERROR_ARGUMENT);
        znn_reader_free(r);
    }
    free(b.bytes);
    free(dst);
    free(src);
}

static void a_description_adds_up(void **state)
{
    (void)state;
    const size_t size = 1300001;
    uint8_t *src = make_weights(size, 22);
    znn_options o = options_of(ZNN_BF16, 3, 1);
    buffer b = compress(src, size, &o);
    znn_reader *r;
    znn_frame_info info;
    assert_int_equal(znn_reader_open(&r, b.bytes, b.size, NULL), ZNN_OK);
    assert_int_equal(znn_reader_info(r, &info), ZNN_OK);
    assert_int_equal(info.frames, 1);
    assert_int_equal(info.segments, 1);
    assert_int_equal(info.content_size, size);
    assert_int_equal(info.stored_size, b.size);
    assert_int_equal(info.chunk_max, CHUNK_MAX);
    assert_int_equal(info.version, 1);
    assert_int_equal(info.has_checksum, 1);
    assert_int_equal(info.needs_base, 0);
    uint64_t content = 0, stored = ZNN_HEADER_SIZE;
    for (uint64_t i = 0; i < info.chunks; i++) {
        znn_chunk_info c;
        assert_int_equal(znn_reader_chunk(r, i, &c), ZNN_OK);
        assert_int_equal(c.content_offset, content);
        assert_int_equal(c.stored_offset, stored);
        assert_int_equal(c.dtype, ZNN_BF16);
        assert_int_equal(c.starts_segment, i == 0);
        assert_non_null(znn_method_name(c.method));
        assert_true(c.checksum == znn_hash(src + content, (size_t)c.content_size));
        content += c.content_size;
        stored += c.stored_size;
    }
    assert_int_equal(content, size);
    assert_int_equal(stored + ZNN_END_HEADER_SIZE + 8 * info.chunks + ZNN_TRAILER_SIZE, b.size);
    znn_chunk_info c;
    assert_int_equal(znn_reader_chunk(r, info.chunks, &c), ZNN_ERROR_ARGUMENT);
    znn_reader_free(r);
    assert_int_equal(znn_reader_open_fn(&r, read_nothing, NULL, b.size, NULL), ZNN_ERROR_IO);
    assert_null(r);
    free(b.bytes);
    free(src);
}

/* ---- damage ---- */

/* Every way to decode; all must agree that something is wrong. */
static void assert_all_refuse(const uint8_t *frame, size_t size, uint8_t *dst, size_t room, const char *what, size_t at)
{
    uint8_t *exact = malloc(size ? size : 1);
    uint64_t n;
    size_t m;
    assert_non_null(exact);
    memcpy(exact, frame, size);
    znn_options o = options_of(ZNN_AUTO, 3, 1);
    if (znn_decompress(dst, room, &n, exact, size, &o) == ZNN_OK)
        fail_msg("one shot takes a frame with %s %zu", what, at);
    if (stream_decompress(exact, size, &o, 4096, dst, room, &m) == ZNN_OK)
        fail_msg("the stream decoder takes a frame with %s %zu", what, at);
    free(exact);
}

static buffer small_frame(znn_dtype dtype, uint8_t *src, size_t size)
{
    znn_options o = options_of(dtype, 3, 1);
    return compress(src, size, &o);
}

static void a_frame_cut_short_is_truncated(void **state)
{
    (void)state;
    uint8_t *src = make_weights(900, 1), dst[1000];
    buffer b = small_frame(ZNN_BF16, src, 900);
    for (size_t size = 0; size < b.size; size++) {
        uint64_t n;
        size_t m;
        uint8_t *exact = malloc(size ? size : 1);
        memcpy(exact, b.bytes, size);
        assert_int_equal(znn_decompress(dst, sizeof dst, &n, exact, size, NULL), ZNN_ERROR_TRUNCATED);
        assert_int_equal(znn_content_size(exact, size, &n), ZNN_ERROR_TRUNCATED);
        assert_int_equal(stream_decompress(exact, size, NULL, 300, dst, sizeof dst, &m), ZNN_ERROR_TRUNCATED);
        free(exact);
    }
    free(b.bytes);
    free(src);
}

/* Outside the payloads every bit counts. Inside, a bit may mean nothing (zstd has
 * such bits), so that the content is still right: it must then be exactly right. */
static void any_changed_byte_is_noticed(void **state)
{
    (void)state;
    static const znn_dtype dtypes[] = {ZNN_BF16, ZNN_F32, ZNN_BYTES, ZNN_I64, ZNN_F8_E4M3};
    for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) {
        const size_t size = 2500 + k;
        uint8_t *src = make_weights(size, (uint32_t)k), dst[4000];
        buffer b = small_frame(dtypes[k], src, size);
        const size_t payload = ZNN_HEADER_SIZE + ZNN_BLOCK_HEADER_SIZE;
        const size_t payload_end = payload + znn_load32(b.bytes + ZNN_HEADER_SIZE + 8);
        size_t refused = 0;
        for (size_t i = 0; i < b.size; i++)
            for (unsigned bit = 0; bit < 8; bit++) {
                b.bytes[i] ^= (uint8_t)(1u << bit);
                uint64_t n = 0;
                memset(dst, 0, sizeof dst);
                if (i < payload || i >= payload_end)
                    assert_all_refuse(b.bytes, b.size, dst, sizeof dst, "a changed byte at", i);
                else if (znn_decompress(dst, sizeof dst, &n, b.bytes, b.size, NULL) != ZNN_OK)
                    refused++;
                else if (n != size || memcmp(dst, src, size) != 0)
                    fail_msg("wrong content is taken for right after a change at %zu", i);
                b.bytes[i] ^= (uint8_t)(1u << bit);
            }
        assert_true(refused > (payload_end - payload) * 7); /* of 8 a byte */
        assert_decompresses(b.bytes, b.size, src, size, NULL);
        free(b.bytes);
        free(src);
    }
}

static void damage_without_checksums_does_not_crash(void **state)
{
    (void)state;
    const size_t size = 4000;
    uint8_t *src = make_weights(size, 3), dst[5000];
    znn_options o = options_of(ZNN_BF16, 3, 1);
    o.checksum = 0;
    buffer b = compress(src, size, &o);
    uint8_t *exact = malloc(b.size);
    for (size_t i = 0; i < 20000; i++) {
        memcpy(exact, b.bytes, b.size);
        size_t payload = ZNN_HEADER_SIZE + ZNN_BLOCK_HEADER_SIZE;
        for (unsigned k = 0; k < 1 + i % 3; k++)
            exact[payload + next_random() % (b.size - payload - 80)] = (uint8_t)next_random();
        uint64_t n = 0;
        size_t m = 0;
        znn_status one = znn_decompress(dst, size, &n, exact, b.size, NULL);
        uint8_t first[4000];
        memcpy(first, dst, size);
        znn_status other = stream_decompress(exact, b.size, NULL, 10000, dst, size, &m);
        assert_int_equal(one, other);
        if (one == ZNN_OK)
            assert_memory_equal(first, dst, size); /* wrong, but the same for all */
    }
    free(exact);
    free(b.bytes);
    free(src);
}

static void bytes_after_a_frame_are_an_error(void **state)
{
    (void)state;
    uint8_t *src = make_weights(500, 1), dst[1000];
    buffer b = small_frame(ZNN_BF16, src, 500);
    uint8_t *longer = calloc(1, b.size + 100);
    memcpy(longer, b.bytes, b.size);
    for (size_t extra = 1; extra <= 100; extra += 33)
        assert_all_refuse(longer, b.size + extra, dst, sizeof dst, "zeros after it:", extra);
    free(longer);
    free(b.bytes);
    free(src);
}

/* Rewrite the header's checksum, and the whole's and the table's, after a change. */
static void seal(uint8_t *frame, size_t size)
{
    znn_hasher hasher;
    const uint32_t extensions = znn_load32(frame + 24);
    znn_hasher_begin(&hasher);
    znn_hasher_update(&hasher, frame, 28);
    if (extensions < size)
        znn_hasher_update(&hasher, frame + ZNN_HEADER_SIZE, extensions);
    znn_store32(frame + 28, (uint32_t)znn_hasher_end(&hasher));
    size_t trailer = size - ZNN_TRAILER_SIZE, end = trailer - ZNN_END_HEADER_SIZE - ZNN_TABLE_ENTRY_SIZE;
    uint8_t *block = frame + ZNN_HEADER_SIZE + (extensions < size ? extensions : 0);
    znn_store64(frame + trailer + 16, znn_hash(block, ZNN_BLOCK_HEADER_SIZE));
    znn_store32(frame + trailer + 40, (uint32_t)znn_hash(frame + end, size - 8 - end));
}

/* Fields that are wrong though every checksum is right: what a checksum cannot catch. */
static void wrong_fields_are_refused_behind_right_checksums(void **state)
{
    (void)state;
    uint8_t *src = make_weights(600, 1), dst[1000];
    buffer b = small_frame(ZNN_BF16, src, 600);
    const size_t block = ZNN_HEADER_SIZE, trailer = b.size - ZNN_TRAILER_SIZE, table = trailer - 8;
    const struct {
        size_t at;
        uint64_t value;
        unsigned bytes;
        znn_status expected; /* of one shot; OK: any error */
    } changes[] = {
        {4, 2, 1, ZNN_ERROR_UNSUPPORTED},                      /* version */
        {5, 15, 1, ZNN_ERROR_FORMAT},                          /* chunk_log */
        {5, 23, 1, ZNN_ERROR_FORMAT},
        {5, 255, 1, ZNN_ERROR_FORMAT},
        {6, 3 | 8, 2, ZNN_ERROR_UNSUPPORTED},                  /* flags */
        {6, 3 | 0x8000, 2, ZNN_ERROR_UNSUPPORTED},
        {6, 3 | 4, 2, ZNN_OK},                                 /* a base, but no extension */
        {8, 599, 8, ZNN_ERROR_FORMAT},                         /* content size */
        {8, 601, 8, ZNN_ERROR_FORMAT},
        {8, UINT64_MAX, 8, ZNN_ERROR_FORMAT},                  /* "known" */
        {16, 1, 8, ZNN_ERROR_UNSUPPORTED},                     /* reserved */
        {24, 65537, 4, ZNN_ERROR_FORMAT},                      /* extensions */
        {24, UINT32_MAX, 4, ZNN_ERROR_FORMAT},
        {block, 3, 1, ZNN_ERROR_UNSUPPORTED},                  /* block type */
        {block + 1, 0, 1, ZNN_ERROR_FORMAT},                   /* dtype */
        {block + 1, ZNN_DTYPE_COUNT, 1, ZNN_ERROR_FORMAT},
        {block + 2, 200, 1, ZNN_ERROR_UNSUPPORTED},            /* method */
        {block + 3, 2, 1, ZNN_ERROR_UNSUPPORTED},              /* flags */
        {block + 4, 0, 4, ZNN_ERROR_FORMAT},                   /* content size */
        {block + 4, 601, 4, ZNN_ERROR_FORMAT},
        {block + 4, (1u << 18) + 1, 4, ZNN_ERROR_FORMAT},
        {block + 4, UINT32_MAX, 4, ZNN_ERROR_FORMAT},
        {block + 8, 601, 4, ZNN_ERROR_FORMAT},                 /* stored size */
        {block + 8, UINT32_MAX, 4, ZNN_ERROR_FORMAT},
        {block + 8, 0, 4, ZNN_ERROR_FORMAT},
        {block + 12, 12345, 8, ZNN_ERROR_CHECKSUM},
        {table - 8, 3, 1, ZNN_OK},                             /* the end block's type */
        {table - 7, 1, 1, ZNN_OK},
        {table, 0, 4, ZNN_ERROR_FORMAT},                       /* the table */
        {table, 599, 4, ZNN_ERROR_FORMAT},
        {table, UINT32_MAX, 4, ZNN_ERROR_FORMAT},
        {table + 4, 19, 4, ZNN_ERROR_FORMAT},
        {table + 4, UINT32_MAX, 4, ZNN_ERROR_FORMAT},
        {trailer, 0, 8, ZNN_OK},                               /* the trailer */
        {trailer, 2, 8, ZNN_OK},
        {trailer, UINT64_MAX, 8, ZNN_ERROR_FORMAT},
        {trailer, UINT64_C(1) << 61, 8, ZNN_ERROR_FORMAT},
        {trailer + 8, 601, 8, ZNN_ERROR_FORMAT},
        {trailer + 8, UINT64_MAX, 8, ZNN_ERROR_FORMAT},
        {trailer + 24, 0, 8, ZNN_ERROR_FORMAT},
        {trailer + 24, 88, 8, ZNN_OK},
        {trailer + 24, UINT64_MAX, 8, ZNN_ERROR_FORMAT},
        {trailer + 32, 1, 8, ZNN_ERROR_UNSUPPORTED},
    };
    uint8_t *frame = malloc(b.size);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        memcpy(frame, b.bytes, b.size);
        for (unsigned k = 0; k < changes[i].bytes; k++)
            frame[changes[i].at + k] = (uint8_t)(changes[i].value >> 8 * k);
        seal(frame, b.size);
        uint64_t n;
        znn_status status = znn_decompress(dst, sizeof dst, &n, frame, b.size, NULL);
        if (changes[i].expected != ZNN_OK && status != changes[i].expected)
            fail_msg("change %zu gives status %d, not %d", i, status, changes[i].expected);
        assert_all_refuse(frame, b.size, dst, sizeof dst, "wrong field", i);
    }
    memcpy(frame, b.bytes, b.size);
    seal(frame, b.size);
    assert_memory_equal(frame, b.bytes, b.size); /* seal itself is right */
    free(frame);
    free(b.bytes);
    free(src);
}

/* Chunks 1 and 2 of a frame of one segment change places, and so do their entries in the table. */
static void swap_chunks(uint8_t *frame, size_t size, size_t chunks)
{
    uint8_t *trailer = frame + size - ZNN_TRAILER_SIZE, *table = trailer - ZNN_TABLE_ENTRY_SIZE * chunks;
    const size_t one = znn_load32(table + 8 + 4), two = znn_load32(table + 16 + 4);
    uint8_t *first = frame + ZNN_HEADER_SIZE + znn_load32(table + 4), *copy = malloc(one);
    assert_int_equal(znn_load32(table + 8), znn_load32(table + 16)); /* of content */
    memcpy(copy, first, one);
    memmove(first, first + one, two);
    memcpy(first + two, copy, one);
    znn_store32(table + 8 + 4, (uint32_t)two);
    znn_store32(table + 16 + 4, (uint32_t)one);
    const uint8_t *end = table - ZNN_END_HEADER_SIZE;
    znn_store32(trailer + 40, (uint32_t)znn_hash(end, (size_t)(trailer + 40 - end)));
    free(copy);
}

/* Each chunk is what its own checksum says; only the frame's tells. */
static void chunks_that_changed_places_are_noticed_once_all_are_read(void **state)
{
    (void)state;
    const size_t size = 4 * CHUNK_MAX, piece = 100001;
    uint8_t *dst = malloc(2 * size), *src = make_weights(size, 31);
    for (int mode = 0; mode < 4; mode++) {
        znn_options o = options_of(ZNN_BF16, 3, mode & 1 ? 3 : 1);
        buffer b = compress(src, size, &o), whole = b;
        swap_chunks(b.bytes, b.size, 4);
        if (mode & 2) { /* behind a sound frame */
            whole = (buffer){malloc(2 * b.size), 2 * b.size};
            memcpy(whole.bytes + b.size, b.bytes, b.size);
            memcpy(whole.bytes, b.bytes, b.size);
            swap_chunks(whole.bytes, b.size, 4); /* back */
        }
        assert_all_refuse(whole.bytes, whole.size, dst, 2 * size, "swapped chunks, mode", (size_t)mode);
        znn_reader *r;
        assert_int_equal(znn_reader_open_fn(&r, read_memory, &whole, whole.size, &o), ZNN_OK);
        const uint64_t content = znn_reader_size(r);
        assert_int_equal(znn_reader_read(r, dst, 0, content), ZNN_ERROR_CHECKSUM);
        assert_int_equal(znn_reader_read(r, dst, 0, content), ZNN_ERROR_CHECKSUM); /* and stays so */
        znn_reader_free(r);
        /* In pieces, the last of which is in the middle. */
        assert_int_equal(znn_reader_open(&r, whole.bytes, whole.size, &o), ZNN_OK);
        const uint64_t middle = content - size + CHUNK_MAX;
        for (uint64_t at = 0, n; at < content; at += n) {
            n = ZNN_MIN(piece, content - at);
            if (at + n < middle || at > middle + CHUNK_MAX)
                assert_int_equal(znn_reader_read(r, dst, at, n), ZNN_OK);
        }
        assert_int_equal(znn_reader_read(r, dst, middle, CHUNK_MAX), ZNN_ERROR_CHECKSUM);
        znn_reader_free(r);
        znn_frame_info info;
        assert_int_equal(znn_reader_open(&r, whole.bytes, whole.size, &o), ZNN_OK);
        assert_int_equal(znn_reader_info(r, &info), ZNN_ERROR_CHECKSUM);
        znn_reader_free(r);
        if (whole.bytes != b.bytes)
            free(whole.bytes);
        free(b.bytes);
    }
    free(dst);
    free(src);
}

/* The frame with extensions put in. */
static buffer with_extensions(buffer b, const uint8_t *extensions, size_t size)
{
    buffer x = {malloc(b.size + size), b.size + size};
    assert_non_null(x.bytes);
    memcpy(x.bytes, b.bytes, ZNN_HEADER_SIZE);
    memcpy(x.bytes + ZNN_HEADER_SIZE, extensions, size);
    memcpy(x.bytes + ZNN_HEADER_SIZE + size, b.bytes + ZNN_HEADER_SIZE, b.size - ZNN_HEADER_SIZE);
    znn_store32(x.bytes + 24, (uint32_t)size);
    znn_store64(x.bytes + x.size - ZNN_TRAILER_SIZE + 24, x.size);
    seal(x.bytes, x.size);
    return x;
}

static void even_extensions_are_skipped_and_odd_ones_refused(void **state)
{
    (void)state;
    uint8_t *src = make_weights(600, 1), dst[1000];
    uint64_t n;
    size_t m;
    buffer b = small_frame(ZNN_BF16, src, 600);
    static const uint8_t even[] = {2, 0, 3, 0, 'a', 'b', 'c', 0x40, 1, 0, 0};
    static const uint8_t odd[] = {2, 0, 0, 0, 0x41, 1, 0, 0};
    static const uint8_t overlong[] = {2, 0, 4, 0, 'a', 'b', 'c'};
    static const uint8_t stump[] = {2, 0, 0};
    buffer x = with_extensions(b, even, sizeof even);
    assert_decompresses(x.bytes, x.size, src, 600, NULL);
    assert_streams_back(x, src, 600, 1, 7);
    free(x.bytes);
    const struct {
        const uint8_t *bytes;
        size_t size;
        znn_status expected;
    } bad[] = {{odd, sizeof odd, ZNN_ERROR_UNSUPPORTED},
               {overlong, sizeof overlong, ZNN_ERROR_FORMAT},
               {stump, sizeof stump, ZNN_ERROR_FORMAT}};
    for (size_t i = 0; i < 3; i++) {
        x = with_extensions(b, bad[i].bytes, bad[i].size);
        assert_int_equal(znn_decompress(dst, sizeof dst, &n, x.bytes, x.size, NULL), bad[i].expected);
        assert_int_equal(stream_decompress(x.bytes, x.size, NULL, 50, dst, sizeof dst, &m), bad[i].expected);
        free(x.bytes);
    }
    free(b.bytes);
    free(src);
}

static void the_decoder_says_where_the_damage_is(void **state)
{
    (void)state;
    const size_t chunk = (size_t)256 << 10; /* of content that is no floats of 16 bits */
    const size_t size = 4 * chunk;
    uint8_t *src = make_noise(size, 7), *dst = malloc(size);
    for (int threads = 1; threads <= 3; threads += 2) {
        znn_options o = options_of(ZNN_BYTES, 3, threads);
        buffer b = compress(src, size, &o);
        size_t block = ZNN_HEADER_SIZE + 2 * (chunk + ZNN_BLOCK_HEADER_SIZE);
        b.bytes[block + ZNN_BLOCK_HEADER_SIZE + 100] ^= 1; /* in the third chunk */
        znn_decoder *d;
        uint64_t input, content;
        assert_int_equal(znn_decoder_new(&d, &o), ZNN_OK);
        znn_in_buffer in = {b.bytes, b.size, 0};
        znn_out_buffer out = {dst, size, 0};
        assert_int_equal(znn_decoder_run(d, &out, &in, NULL), ZNN_ERROR_CHECKSUM);
        znn_decoder_position(d, &input, &content);
        assert_int_equal(input, block);
        assert_int_equal(content, 2 * chunk);
        assert_int_equal(znn_decoder_run(d, &out, &in, NULL), ZNN_ERROR_CHECKSUM); /* final */
        znn_decoder_free(d);
        free(b.bytes);
    }
    free(dst);
    free(src);
}

static void verification_can_be_turned_off(void **state)
{
    (void)state;
    uint8_t *src = make_noise(5000, 7), dst[5000];
    znn_options o = options_of(ZNN_BYTES, 3, 1);
    buffer b = compress(src, 5000, &o);
    b.bytes[ZNN_HEADER_SIZE + ZNN_BLOCK_HEADER_SIZE + 100] ^= 1;
    uint64_t n;
    assert_int_equal(znn_decompress(dst, 5000, &n, b.bytes, b.size, NULL), ZNN_ERROR_CHECKSUM);
    o.checksum = 0;
    assert_int_equal(znn_decompress(dst, 5000, &n, b.bytes, b.size, &o), ZNN_OK);
    assert_int_equal(dst[100], src[100] ^ 1);
    free(b.bytes);
    free(src);
}

/* ---- memory ---- */

typedef struct {
    _Atomic long left; /* allocations that still succeed */
    _Atomic long live;
} limited;

static void *limited_alloc(void *opaque, size_t size)
{
    limited *l = opaque;
    if (l->left-- <= 0)
        return NULL;
    l->live++;
    return malloc(size);
}

static void limited_free(void *opaque, void *address)
{
    limited *l = opaque;
    l->live -= address != NULL;
    free(address);
}

static void failing_allocations_are_reported_and_leak_nothing(void **state)
{
    (void)state;
    uint8_t *src = make_weights(300000, 2), *dst = malloc(400000), *back = malloc(300000);
    for (int which = 0; which < 8; which++) {
        const int what = which % 4, threads = which < 4 ? 1 : 3;
        buffer b = compress(src, 300000, NULL);
        znn_status status = ZNN_ERROR_MEMORY;
        for (long allowed = 0; status == ZNN_ERROR_MEMORY; allowed++) {
            assert_true(allowed < 1000);
            limited l = {allowed, 0};
            znn_options o = options_of(ZNN_AUTO, 3, threads);
            o.alloc = limited_alloc;
            o.free = limited_free;
            o.opaque = &l;
            uint64_t n;
            size_t m;
            if (what == 0) {
                status = znn_compress(dst, 400000, &n, src, 300000, &o);
            } else if (what == 1) {
                status = znn_decompress(back, 300000, &n, b.bytes, b.size, &o);
            } else if (what == 2) {
                znn_decoder *d;
                status = znn_decoder_new(&d, &o);
                if (status == ZNN_OK) {
                    znn_in_buffer in = {b.bytes, b.size, 0};
                    znn_out_buffer out = {back, 300000, 0};
                    status = znn_decoder_run(d, &out, &in, NULL);
                    znn_decoder_free(d);
                }
            } else {
                znn_reader *r;
                status = znn_reader_open_fn(&r, read_memory, &b, b.size, &o);
                if (status == ZNN_OK) {
                    status = znn_reader_read(r, back, 1, 299999);
                    if (status == ZNN_ERROR_MEMORY && l.left < 0) /* memory comes back: so does the reader */
                        {
                        l.left = 1000;
                        assert_int_equal(znn_reader_read(r, back, 1, 299999), ZNN_OK);
                        assert_memory_equal(back, src + 1, 299999);
                    }
                    znn_reader_free(r);
                }
            }
            m = (size_t)l.live;
            assert_int_equal(m, 0);
        }
        assert_int_equal(status, ZNN_OK);
        free(b.bytes);
    }
    free(src);
    free(dst);
    free(back);
}

typedef struct {
    _Atomic size_t live, most; /* bytes */
} measured;

static void *measured_alloc(void *opaque, size_t size)
{
    measured *m = opaque;
    size_t *p = malloc(size + 64);
    if (!p)
        return NULL;
    *p = size;
    size_t live = atomic_fetch_add(&m->live, size) + size;
    if (live > m->most)
        m->most = live;
    return (uint8_t *)p + 64;
}

static void measured_free(void *opaque, void *address)
{
    measured *m = opaque;
    if (!address)
        return;
    size_t *p = (void *)((uint8_t *)address - 64);
    m->live -= *p;
    free(p);
}

static void measuring(znn_options *o, measured *m)
{
    *m = (measured){0};
    o->alloc = measured_alloc;
    o->free = measured_free;
    o->opaque = m;
}

static void the_size_of_many_frames_is_told_in_little_memory(void **state)
{
    (void)state;
    enum { FRAMES = 5000 };
    buffer b = compress((const uint8_t *)"some", 4, NULL), all = {malloc(FRAMES * b.size), FRAMES * b.size};
    assert_non_null(all.bytes);
    for (size_t i = 0; i < FRAMES; i++)
        memcpy(all.bytes + i * b.size, b.bytes, b.size);
    measured m;
    znn_options o = options_of(ZNN_AUTO, 3, 1);
    measuring(&o, &m);
    uint64_t content;
    assert_int_equal(znn_content_size_fn(read_memory, &all, all.size, &o, &content), ZNN_OK);
    assert_int_equal(content, 4 * FRAMES);
    assert_true(m.most <= ZNN_HEADER_SIZE + ZNN_EXTENSIONS_MAX);
    all.size--;
    assert_int_equal(znn_content_size_fn(read_memory, &all, all.size, &o, &content), ZNN_ERROR_TRUNCATED);
    free(all.bytes);
    free(b.bytes);
}

static void chunks_of_the_largest_size_take_bounded_memory(void **state)
{
    (void)state;
    uint8_t *src = make_weights(1000, 2), dst[1000];
    buffer b = small_frame(ZNN_BF16, src, 1000);
    b.bytes[5] = ZNN_CHUNK_LOG_MAX;
    seal(b.bytes, b.size);
    for (int threads = 1; threads <= 32; threads *= 2) {
        measured m;
        znn_options o = options_of(ZNN_AUTO, 3, threads);
        measuring(&o, &m);
        size_t n;
        assert_int_equal(stream_decompress(b.bytes, b.size, &o, 100, dst, 1000, &n), ZNN_OK);
        assert_true(m.most < ((size_t)40 << 20) + ((size_t)threads << 22));
    }
    free(b.bytes);
    free(src);
}

/* However small the caller's portions, there is work for all before any is done. */
static void small_portions_are_gathered_for_all_threads(void **state)
{
    (void)state;
    const int threads = 4;
    const size_t size = 3 * (size_t)threads * CHUNK_MAX, portion = CHUNK_MAX / 2 + 1;
    uint8_t *src = make_noise(size, 3), *dst = malloc(2 * size);
    znn_options o = options_of(ZNN_BF16, 3, threads);
    znn_encoder *e;
    assert_int_equal(znn_encoder_new(&e, &o), ZNN_OK);
    znn_out_buffer out = {dst, 2 * size, 0};
    size_t taken = 0;
    while (taken < size && out.pos <= ZNN_HEADER_SIZE) {
        znn_in_buffer in = {src + taken, size - taken < portion ? size - taken : portion, 0};
        assert_int_equal(znn_encoder_run(e, &out, &in, ZNN_CONTINUE, NULL), ZNN_OK);
        taken += in.pos;
    }
    assert_true(out.pos >= (size_t)threads * CHUNK_MAX);
    znn_encoder_free(e);
    free(src);
    free(dst);
}

static void missing_arguments_are_refused(void **state)
{
    (void)state;
    uint8_t byte = 0;
    uint64_t n;
    znn_reader *r;
    znn_options o = options_of(ZNN_AUTO, 10, 1);
    assert_int_equal(znn_compress(&byte, 1, NULL, &byte, 1, NULL), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_compress(&byte, 1, &n, NULL, 1, NULL), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_compress(NULL, 1, &n, &byte, 1, NULL), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_compress(&byte, 1, &n, &byte, 1, &o), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_decompress(&byte, 1, NULL, &byte, 1, NULL), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_decompress(&byte, 1, &n, NULL, 1, NULL), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_content_size(&byte, 1, NULL), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_content_size_fn(NULL, NULL, 1, NULL, &n), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_reader_open(NULL, &byte, 1, NULL), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_reader_open_fn(&r, NULL, NULL, 1, NULL), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_encoder_new(NULL, NULL), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_decoder_new(NULL, NULL), ZNN_ERROR_ARGUMENT);
    znn_encoder_free(NULL);
    znn_decoder_free(NULL);
    znn_reader_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_size_comes_back),
        cmocka_unit_test(any_dtype_and_level_comes_back),
        cmocka_unit_test(without_checksums_it_comes_back),
        cmocka_unit_test(threads_do_not_change_the_bytes),
        cmocka_unit_test(large_content_comes_back),
        cmocka_unit_test(a_short_destination_is_refused),
        cmocka_unit_test(noise_grows_by_less_than_a_thousandth),
        cmocka_unit_test(the_bound_holds_for_tiny_tensors),
        cmocka_unit_test(the_bound_saturates),
        cmocka_unit_test(an_empty_frame_is_as_written_down),
        cmocka_unit_test(only_frames_are_frames),
        cmocka_unit_test(frames_that_follow_one_another_are_one_content),
        cmocka_unit_test(streams_give_the_bytes_of_one_shot),
        cmocka_unit_test(one_byte_at_a_time_is_enough),
        cmocka_unit_test(what_was_flushed_can_be_decoded),
        cmocka_unit_test(an_encoder_writes_frame_after_frame),
        cmocka_unit_test(a_wrong_content_size_is_an_error),
        cmocka_unit_test(the_memory_limit_is_kept),
        cmocka_unit_test(any_range_can_be_read),
        cmocka_unit_test(a_description_adds_up),
        cmocka_unit_test(a_frame_cut_short_is_truncated),
        cmocka_unit_test(any_changed_byte_is_noticed),
        cmocka_unit_test(damage_without_checksums_does_not_crash),
        cmocka_unit_test(bytes_after_a_frame_are_an_error),
        cmocka_unit_test(wrong_fields_are_refused_behind_right_checksums),
        cmocka_unit_test(chunks_that_changed_places_are_noticed_once_all_are_read),
        cmocka_unit_test(even_extensions_are_skipped_and_odd_ones_refused),
        cmocka_unit_test(the_decoder_says_where_the_damage_is),
        cmocka_unit_test(verification_can_be_turned_off),
        cmocka_unit_test(failing_allocations_are_reported_and_leak_nothing),
        cmocka_unit_test(the_size_of_many_frames_is_told_in_little_memory),
        cmocka_unit_test(chunks_of_the_largest_size_take_bounded_memory),
        cmocka_unit_test(small_portions_are_gathered_for_all_threads),
        cmocka_unit_test(missing_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
