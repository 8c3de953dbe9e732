/* What fuzzing and static analysis found and nothing else had: one test each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <znn.h>

static int read_fails(void *opaque, uint64_t offset, void *dst, size_t size)
{
    (void)opaque, (void)offset, (void)dst, (void)size;
    return -1;
}

/* A disk that cannot be read is not a file that was cut off. */
static void a_read_that_fails_at_the_files_begin_is_an_input_output_error(void **state)
{
    (void)state;
    znn_reader *reader;
    uint64_t size;
    assert_int_equal(znn_reader_open_fn(&reader, read_fails, NULL, 50, NULL), ZNN_ERROR_IO);
    assert_int_equal(znn_content_size_fn(read_fails, NULL, 50, NULL, &size), ZNN_ERROR_IO);
}

/* Exponents of which the rarest sixteen, with the lowest indices, together are commoner than any other: what the
 * table does not know was then coded as the escape, and no decoder could tell. */
static void what_the_table_does_not_know_is_not_coded_as_the_escape(void **state)
{
    (void)state;
    enum { COUNT = 32768 };
    uint8_t *content = calloc(COUNT, 8), *back = malloc(COUNT * 8);
    znn_options options;
    znn_options_init(&options);
    options.dtype = ZNN_F64;
    uint64_t capacity = znn_compress_bound(COUNT * 8), size, back_size;
    uint8_t *frame = malloc(capacity);
    assert_true(content && back && frame);
    uint64_t random = 1;
    for (size_t i = 0; i < COUNT; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const unsigned kind = (unsigned)(random >> 33) % 1000, which = (unsigned)(random >> 45) % 16;
        const unsigned exponent = kind < 20 ? 64 + which : kind < 110 ? which : 1072 + which;
        const uint64_t element = (uint64_t)exponent << 52 | random >> 12;
        for (unsigned k = 0; k < 8; k++)
            content[8 * i + k] = (uint8_t)(element >> 8 * k);
    }
    assert_int_equal(znn_compress(frame, capacity, &size, content, COUNT * 8, &options), ZNN_OK);
    assert_int_equal(znn_decompress(back, COUNT * 8, &back_size, frame, size, &options), ZNN_OK);
    assert_memory_equal(back, content, COUNT * 8);
    free(frame);
    free(back);
    free(content);
}

/* A pointer that was never set was freed then. */
static void no_streams_of_some_size_are_a_wrong_argument(void **state)
{
    (void)state;
    uint64_t size;
    assert_int_equal(znn_zipnn_content_size(NULL, 5, &size), ZNN_ERROR_ARGUMENT);
}

/* Groups without bytes were nowhere, and offsets were added to that. Seen by UBSan. */
static void zipnn_streams_of_a_few_bytes_come_back(void **state)
{
    (void)state;
    for (size_t n = 0; n < 12; n++)
        for (znn_dtype dtype = ZNN_AUTO; dtype < ZNN_DTYPE_COUNT; dtype++) {
            uint8_t content[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, stream[1024], back[12];
            uint64_t size, back_size;
            znn_zipnn_options options;
            znn_zipnn_options_init(&options);
            options.dtype = dtype;
            if (!znn_zipnn_bound(n, &options))
                continue;
            assert_true(znn_zipnn_bound(n, &options) <= sizeof stream);
            assert_int_equal(znn_zipnn_compress(stream, sizeof stream, &size, content, n, &options), ZNN_OK);
            assert_int_equal(znn_zipnn_decompress(back, n, &back_size, stream, size, NULL), ZNN_OK);
            assert_int_equal(back_size, n);
            assert_memory_equal(back, content, n);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_that_fails_at_the_files_begin_is_an_input_output_error),
        cmocka_unit_test(what_the_table_does_not_know_is_not_coded_as_the_escape),
        cmocka_unit_test(no_streams_of_some_size_are_a_wrong_argument),
        cmocka_unit_test(zipnn_streams_of_a_few_bytes_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
