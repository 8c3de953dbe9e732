/* The line and the pool beneath it: order, stops, and failures in the middle, with any number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "frame/line.h"
#include "znn.h"

#define SLOTS 5

/* Numbers 0 .. count - 1, each squared by a worker. */
typedef struct {
    znn_line line;
    size_t count, taken, put;
    size_t stop_at; /* put refuses this one, once */
    uint64_t numbers[SLOTS];
    _Atomic int taking, putting, working; /* how many are in there */
    _Atomic bool wrong;
} squares;

static void dawdle(uint64_t number)
{
    /* The first of each five takes longest, so that those behind it are done before it. */
    struct timespec t = {0, number % 5 == 0 ? 300000 : 0};
    nanosleep(&t, NULL);
}

static bool take_number(void *argument, size_t slot, bool alone)
{
    squares *s = argument;
    s->wrong |= atomic_fetch_add(&s->taking, 1) != 0;
    const bool ok = s->taken < s->count;
    if (ok) {
        s->wrong |= alone && (s->working != 0 || s->putting != 0);
        s->numbers[slot] = s->taken++;
    }
    atomic_fetch_sub(&s->taking, 1);
    return ok;
}

static void square(void *argument, size_t slot, unsigned worker)
{
    (void)worker;
    squares *s = argument;
    atomic_fetch_add(&s->working, 1);
    dawdle(s->numbers[slot]);
    s->numbers[slot] *= s->numbers[slot];
    atomic_fetch_sub(&s->working, 1);
}

static bool put_number(void *argument, size_t slot)
{
    squares *s = argument;
    s->wrong |= atomic_fetch_add(&s->putting, 1) != 0;
    const bool ok = s->put != s->stop_at;
    if (ok) {
        s->wrong |= s->numbers[slot] != (uint64_t)s->put * s->put;
        s->put++;
    } else {
        s->stop_at = SIZE_MAX;
    }
    atomic_fetch_sub(&s->putting, 1);
    return ok;
}

static const znn_line_steps squaring = {take_number, square, put_number};

static const int threads_tried[] = {1, 2, 3, 8};
#define THREADS_TRIED (sizeof threads_tried / sizeof *threads_tried)

static znn_pool *pool_of(int threads)
{
    znn_options o;
    znn_options_init(&o);
    const znn_allocator allocator = znn_allocator_from(&o);
    znn_pool *pool = znn_pool_new(threads, &allocator);
    assert_non_null(pool);
    return pool;
}

static void what_is_taken_in_order_is_put_in_order(void **state)
{
    (void)state;
    for (size_t t = 0; t < THREADS_TRIED; t++) {
        znn_pool *pool = pool_of(threads_tried[t]);
        squares s = {.stop_at = SIZE_MAX};
        znn_line_init(&s.line, &squaring, &s, SLOTS);
        for (size_t count = 0; count < 200; count += 1 + count / 2) {
            s.count = count;
            znn_line_run(&s.line, pool);
            assert_int_equal(s.taken, count);
            assert_int_equal(s.put, count);
            assert_false(s.wrong);
        }
        znn_line_destroy(&s.line);
        znn_pool_free(pool);
    }
}

static void a_stop_holds_back_what_follows_until_the_next_run(void **state)
{
    (void)state;
    for (size_t t = 0; t < THREADS_TRIED; t++) {
        znn_pool *pool = pool_of(threads_tried[t]);
        for (size_t stop = 0; stop < 40; stop += 3) {
            squares s = {.count = 40, .stop_at = stop};
            znn_line_init(&s.line, &squaring, &s, SLOTS);
            znn_line_run(&s.line, pool);
            assert_int_equal(s.put, stop);
            assert_true(s.taken > stop && s.taken <= stop + SLOTS);
            assert_int_equal(s.line.next - s.line.first, s.taken - stop);
            assert_int_equal(s.working, 0);
            znn_line_run(&s.line, pool);
            assert_int_equal(s.put, 40);
            assert_false(s.wrong);
            znn_line_destroy(&s.line);
        }
        znn_pool_free(pool);
    }
}

/* ---- Failures of workers, through the library ---- */

static uint8_t *make_content(size_t size)
{
    uint8_t *p = malloc(size);
    assert_non_null(p);
    uint32_t x = 1;
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t)(i & 1 ? 0x3c + (x >> 30) : x >> 24);
    }
    return p;
}

typedef struct {
    const uint8_t *bytes;
    size_t fails_from, fails_to; /* a read of what begins in there fails */
    _Atomic int failures;
} failing_file;

static int read_failing(void *opaque, uint64_t offset, void *dst, size_t size)
{
    failing_file *f = opaque;
    if (offset >= f->fails_from && offset < f->fails_to) {
        atomic_fetch_add(&f->failures, 1);
        return -1;
    }
    memcpy(dst, f->bytes + offset, size);
    return 0;
}

static void a_worker_whose_read_fails_fails_the_whole_and_leaves_the_reader_usable(void **state)
{
    (void)state;
    const size_t size = (size_t)6 << 20;
    uint8_t *src = make_content(size), *frame = malloc(size + size / 8), *dst = malloc(size);
    uint64_t frame_size;
    znn_options o;
    znn_options_init(&o);
    o.dtype = ZNN_BF16;
    assert_int_equal(znn_compress(frame, znn_compress_bound(size), &frame_size, src, size, &o), ZNN_OK);
    for (size_t t = 0; t < THREADS_TRIED; t++) {
        failing_file f = {.bytes = frame};
        znn_reader *r;
        o.threads = threads_tried[t];
        assert_int_equal(znn_reader_open_fn(&r, read_failing, &f, frame_size, &o), ZNN_OK);
        f.fails_from = frame_size / 2;
        f.fails_to = frame_size;
        assert_int_equal(znn_reader_read(r, dst, 0, size), ZNN_ERROR_IO);
        assert_true(f.failures > 0);
        f.fails_from = f.fails_to;
        assert_int_equal(znn_reader_read(r, dst, 0, size), ZNN_OK);
        assert_memory_equal(dst, src, size);
        znn_reader_free(r);
    }
    free(src);
    free(frame);
    free(dst);
}

/* Of several damaged chunks, decoded at once, the first in the content is told, and what is before it is handed out. */
static void the_first_of_several_failing_chunks_is_told(void **state)
{
    (void)state;
    const size_t size = (size_t)6 << 20;
    uint8_t *src = make_content(size), *frame = malloc(size + size / 8), *dst = malloc(size);
    uint64_t frame_size;
    znn_options o;
    znn_options_init(&o);
    o.dtype = ZNN_BF16;
    assert_int_equal(znn_compress(frame, znn_compress_bound(size), &frame_size, src, size, &o), ZNN_OK);
    znn_reader *r;
    znn_chunk_info info[9];
    assert_int_equal(znn_reader_open(&r, frame, frame_size, &o), ZNN_OK);
    for (size_t i = 0; i < 9; i++)
        assert_int_equal(znn_reader_chunk(r, i, &info[i]), ZNN_OK);
    znn_reader_free(r);
    for (size_t i = 5; i < 9; i++)
        frame[info[i].stored_offset + info[i].stored_size - 1] ^= 0x55;
    for (size_t t = 0; t < THREADS_TRIED; t++) {
        znn_decoder *d;
        o.threads = threads_tried[t];
        assert_int_equal(znn_decoder_new(&d, &o), ZNN_OK);
        znn_in_buffer in = {frame, frame_size, 0};
        znn_out_buffer out = {dst, size, 0};
        const znn_status status = znn_decoder_run(d, &out, &in, NULL);
        assert_true(status == ZNN_ERROR_CHECKSUM || status == ZNN_ERROR_FORMAT);
        uint64_t input, content;
        znn_decoder_position(d, &input, &content);
        assert_int_equal(input, info[5].stored_offset);
        assert_int_equal(content, info[5].content_offset);
        assert_memory_equal(dst, src, out.pos);
        assert_int_equal(znn_decoder_run(d, &out, &in, NULL), status); /* final */
        znn_decoder_free(d);
        uint64_t n;
        assert_int_equal(znn_decompress(dst, size, &n, frame, frame_size, &o), status);
    }
    free(src);
    free(frame);
    free(dst);
}

/* An encoder that fails when blocks are on their way, or is freed then, neither hangs nor leaks. */
static void an_encoder_may_end_in_the_middle(void **state)
{
    (void)state;
    const size_t size = (size_t)6 << 20;
    uint8_t *src = make_content(size), *dst = malloc(size);
    uint64_t n;
    for (size_t t = 0; t < THREADS_TRIED; t++) {
        znn_options o;
        znn_options_init(&o);
        o.dtype = ZNN_BF16;
        o.threads = threads_tried[t];
        for (size_t room = 0; room < size; room += size / 7)
            if (room < size / 2)
                assert_int_equal(znn_compress(dst, room, &n, src, size, &o), ZNN_ERROR_DST_TOO_SMALL);
        o.content_size = size - 1; /* a lie, found at the end */
        znn_encoder *e;
        size_t pending;
        assert_int_equal(znn_encoder_new(&e, &o), ZNN_OK);
        znn_in_buffer in = {src, size, 0};
        znn_out_buffer out = {dst, size / 3, 0};
        assert_int_equal(znn_encoder_run(e, &out, &in, ZNN_END, &pending), ZNN_OK);
        assert_true(pending > 0);
        assert_int_equal(out.pos, out.size);
        out.size = size;
        assert_int_equal(znn_encoder_run(e, &out, &in, ZNN_END, &pending), ZNN_ERROR_ARGUMENT);
        assert_int_equal(znn_encoder_run(e, &out, &in, ZNN_END, &pending), ZNN_ERROR_ARGUMENT); /* final */
        znn_encoder_free(e);
    }
    free(src);
    free(dst);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_taken_in_order_is_put_in_order),
        cmocka_unit_test(a_stop_holds_back_what_follows_until_the_next_run),
        cmocka_unit_test(a_worker_whose_read_fails_fails_the_whole_and_leaves_the_reader_usable),
        cmocka_unit_test(the_first_of_several_failing_chunks_is_told),
        cmocka_unit_test(an_encoder_may_end_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
