/* What fuzzing found and nothing else had: one test each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_that_fails_at_the_files_begin_is_an_input_output_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
