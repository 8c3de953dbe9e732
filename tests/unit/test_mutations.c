/*
 * Damage must never crash the library, and never pass for the content. A few
 * thousand mutations of small frames, of each dtype and level, go through
 * every entry point that reads frames. The seed is fixed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <znn.h>

#define CONTENT_MAX 6000
#define FRAME_MAX (3 * CONTENT_MAX)
#define MUTATIONS 120 /* of each sample */

typedef struct {
    uint8_t content[CONTENT_MAX];
    uint8_t frame[FRAME_MAX];
    uint64_t content_size, frame_size;
} sample;

static uint64_t random_state;

static uint32_t random_number(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static uint32_t random_below(uint64_t limit)
{
    return (uint32_t)(random_number() % limit);
}

/* Numbers about as weights have them: exponents of few values, mantissas of all. */
static void fill(uint8_t *content, size_t size, znn_dtype dtype)
{
    unsigned width = znn_dtype_size(dtype);
    for (size_t i = 0; i < size; i++) {
        uint32_t r = random_number();
        bool top = width == 0 || i % width == width - 1;
        content[i] = (uint8_t)(top ? 0x38 + (r & r >> 8 & 7) : r);
    }
    if (size > 3000)
        memset(content + 1000, 0, 1200);
}

static void make_sample(sample *s, znn_dtype dtype, int level, size_t size, int checksum)
{
    znn_options options;
    znn_options_init(&options);
    options.dtype = dtype;
    options.level = level;
    options.checksum = checksum;
    fill(s->content, size, dtype);
    s->content_size = size;
    assert_int_equal(znn_compress(s->frame, sizeof s->frame, &s->frame_size, s->content, size, &options), ZNN_OK);
}

static uint64_t mutate(uint8_t *dst, const sample *s)
{
    uint64_t size = s->frame_size;
    memcpy(dst, s->frame, (size_t)size);
    switch (random_below(7)) {
    case 0: /* the end is missing */ return random_below(size);
    case 1: /* a part is missing */ {
        uint64_t from = random_below(size), n = 1 + random_below(size - from);
        memmove(dst + from, dst + from + n, (size_t)(size - from - n));
        return size - n;
    }
    case 2: /* one bit */ dst[random_below(size)] ^= (uint8_t)(1u << random_below(8)); return size;
    case 3: /* one bit where the structure is */
        dst[random_below(size < 96 ? size : 96)] ^= (uint8_t)(1u << random_below(8));
        return size;
    case 4: /* an extreme number */ {
        uint64_t at = random_below(size - 8);
        memset(dst + at, random_below(2) ? 0xff : 0x00, 1 + random_below(8));
        return size;
    }
    case 5: /* some bytes are others */
        for (uint32_t n = 1 + random_below(16); n > 0; n--)
            dst[random_below(size)] = (uint8_t)random_number();
        return size;
    default: /* something follows */ {
        uint64_t n = 1 + random_below(100);
        for (uint64_t i = 0; i < n; i++)
            dst[size + i] = (uint8_t)random_number();
        return size + n;
    }
    }
}

/* Each returns whether the library called it a success, with what it gave. */

static bool by_one_shot(uint8_t *out, uint64_t *out_size, const uint8_t *frame, uint64_t size,
                        const znn_options *options)
{
    uint64_t claimed;
    if (znn_content_size(frame, size, &claimed) == ZNN_OK && claimed <= CONTENT_MAX)
        assert_true(znn_decompress(out, claimed, out_size, frame, size, options) != ZNN_ERROR_DST_TOO_SMALL);
    return znn_decompress(out, CONTENT_MAX, out_size, frame, size, options) == ZNN_OK;
}

static bool by_stream(uint8_t *out, uint64_t *out_size, const uint8_t *frame, uint64_t size, const znn_options *options)
{
    znn_decoder *decoder;
    assert_int_equal(znn_decoder_new(&decoder, options), ZNN_OK);
    znn_out_buffer to = {out, CONTENT_MAX, 0};
    uint64_t taken = 0;
    int ended = 0;
    znn_status status = ZNN_OK;
    while (status == ZNN_OK && taken < size) {
        size_t n = 1 + random_below(700);
        n = n < size - taken ? n : (size_t)(size - taken);
        /* A buffer of its own, so that a sanitizer sees what is read beyond. */
        uint8_t *part = malloc(n);
        assert_non_null(part);
        memcpy(part, frame + taken, n);
        znn_in_buffer in = {part, n, 0};
        size_t before = to.pos;
        status = znn_decoder_run(decoder, &to, &in, &ended);
        free(part);
        taken += in.pos;
        if (status == ZNN_OK && in.pos == 0 && to.pos == before && to.pos == to.size)
            status = ZNN_ERROR_DST_TOO_SMALL;
    }
    znn_decoder_free(decoder);
    *out_size = to.pos;
    return status == ZNN_OK && ended;
}

static bool by_reader(uint8_t *out, uint64_t *out_size, const uint8_t *frame, uint64_t size, const znn_options *options)
{
    znn_reader *reader;
    if (znn_reader_open(&reader, frame, size, options) != ZNN_OK)
        return false;
    znn_frame_info info;
    bool ok = znn_reader_info(reader, &info) == ZNN_OK;
    assert_true(!ok || info.chunks <= size); /* each takes bytes of the file */
    for (uint64_t i = 0; ok && i < info.chunks; i++) {
        znn_chunk_info chunk;
        ok = znn_reader_chunk(reader, i, &chunk) == ZNN_OK;
    }
    *out_size = znn_reader_size(reader);
    ok = ok && *out_size <= CONTENT_MAX && znn_reader_read(reader, out, 0, *out_size) == ZNN_OK;
    znn_reader_free(reader);
    return ok;
}

typedef bool (*entry_point)(uint8_t *, uint64_t *, const uint8_t *, uint64_t, const znn_options *);
static const entry_point entry_points[] = {by_one_shot, by_stream, by_reader};
#define ENTRY_POINTS (sizeof entry_points / sizeof *entry_points)

/* Mutations go through every entry point; returns how many were refused by all. */
static int attack(const sample *s, int mutations, bool content_must_hold)
{
    static uint8_t mutated[FRAME_MAX + 128], out[CONTENT_MAX];
    znn_options options;
    znn_options_init(&options);
    int refused = 0;
    for (int i = 0; i < mutations; i++) {
        uint64_t size = mutate(mutated, s);
        bool unchanged = size == s->frame_size && memcmp(mutated, s->frame, (size_t)size) == 0;
        /* A buffer of its own, so that a sanitizer sees what is read beyond. */
        uint8_t *frame = malloc(size ? (size_t)size : 1);
        assert_non_null(frame);
        memcpy(frame, mutated, (size_t)size);
        int successes = 0;
        for (size_t e = 0; e < ENTRY_POINTS; e++) {
            uint64_t out_size = 0;
            memset(out, 0xa5, sizeof out);
            if (!entry_points[e](out, &out_size, frame, size, &options))
                continue;
            successes++;
            if (content_must_hold) {
                assert_int_equal(out_size, s->content_size);
                assert_memory_equal(out, s->content, (size_t)s->content_size);
            }
        }
        free(frame);
        assert_true(!unchanged || successes == (int)ENTRY_POINTS);
        refused += successes == 0;
    }
    return refused;
}

static const znn_dtype dtypes[] = {ZNN_AUTO,    ZNN_BYTES, ZNN_I8,   ZNN_I64, ZNN_F8_E4M3,
                                   ZNN_F8_E5M2, ZNN_F16,   ZNN_BF16, ZNN_F32, ZNN_F64};
#define DTYPES (sizeof dtypes / sizeof *dtypes)

static void run(int checksum)
{
    static sample s;
    int refused = 0, made = 0;
    random_state = 20240229;
    for (size_t d = 0; d < DTYPES; d++)
        for (int level = 1; level <= 9; level += 4)
            for (int large = 0; large < 2; large++) {
                make_sample(&s, dtypes[d], level, large ? CONTENT_MAX - 5 : 40 + random_below(40), checksum);
                refused += attack(&s, MUTATIONS, checksum);
                made += MUTATIONS;
            }
    /* Else the mutations would not be what they are meant to be. */
    if (checksum)
        assert_true(refused > made * 9 / 10);
    else
        assert_true(refused > made / 2);
}

static void damage_is_never_taken_for_the_content(void **state)
{
    (void)state;
    run(1);
}

/* Without checksums the decoders see the damage themselves. */
static void damage_never_crashes_without_checksums(void **state)
{
    (void)state;
    run(0);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    static sample s;
    static uint8_t out[CONTENT_MAX];
    znn_options options;
    znn_options_init(&options);
    random_state = 7;
    make_sample(&s, ZNN_BF16, 3, 1500, 1);
    for (uint64_t size = 0; size < s.frame_size; size++)
        for (size_t e = 0; e < ENTRY_POINTS; e++) {
            uint64_t out_size;
            assert_false(entry_points[e](out, &out_size, s.frame, size, &options));
        }
    for (size_t e = 0; e < ENTRY_POINTS; e++) {
        uint64_t out_size;
        assert_true(entry_points[e](out, &out_size, s.frame, s.frame_size, &options));
        assert_int_equal(out_size, s.content_size);
        assert_memory_equal(out, s.content, (size_t)s.content_size);
    }
}

static void bytes_that_are_no_frame_are_refused(void **state)
{
    (void)state;
    static uint8_t noise[512], out[CONTENT_MAX];
    znn_options options;
    znn_options_init(&options);
    random_state = 11;
    for (int i = 0; i < 500; i++) {
        uint64_t size = random_below(sizeof noise + 1), out_size;
        for (uint64_t j = 0; j < size; j++)
            noise[j] = (uint8_t)random_number();
        for (size_t e = 0; e < ENTRY_POINTS; e++)
            assert_false(entry_points[e](out, &out_size, noise, size, &options));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_is_never_taken_for_the_content),
        cmocka_unit_test(damage_never_crashes_without_checksums),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(bytes_that_are_no_frame_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
