/* Compressed safetensors: files come back, damage and failing callers end in errors with reasons. The seed is fixed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <znn.h>

#define FILE_MAX 65536
#define MUTATIONS 4000

typedef struct {
    uint8_t data[FILE_MAX];
    uint64_t size;
    int calls_left; /* of the callbacks before they fail; negative for ever */
} memory_file;

static uint64_t random_state;

static uint32_t random_below(uint64_t limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % limit);
}

static int read_memory(void *opaque, uint64_t offset, void *dst, size_t size)
{
    memory_file *file = opaque;
    if (file->calls_left-- == 0 || offset > file->size || size > file->size - offset)
        return -1;
    memcpy(dst, file->data + offset, size);
    return 0;
}

static int write_memory(void *opaque, uint64_t offset, const void *src, size_t size)
{
    memory_file *file = opaque;
    if (file->calls_left-- == 0 || offset > FILE_MAX || size > FILE_MAX - offset)
        return -1;
    memcpy(file->data + offset, src, size);
    return 0;
}

/* Three tensors: one that compresses, one that does not, one of nothing. */
static void make_plain(memory_file *file)
{
    static const char header[] = "{\"__metadata__\":{\"a\":\"[1, \\\"2\\\"]\"},"
                                 "\"w\":{\"dtype\":\"BF16\",\"shape\":[50,40],\"data_offsets\":[0,4000]},"
                                 "\"noise\":{\"dtype\":\"U8\",\"shape\":[300],\"data_offsets\":[4000,4300]},"
                                 "\"none\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[4300,4300]}}  ";
    const size_t n = sizeof header - 1;
    memset(file, 0, sizeof *file);
    file->calls_left = -1;
    file->data[0] = (uint8_t)n;
    file->data[1] = (uint8_t)(n >> 8);
    memcpy(file->data + 8, header, n);
    for (size_t i = 0; i < 4300; i++) {
        const uint8_t noise = (uint8_t)random_below(256);
        file->data[8 + n + i] = i < 4000 && i % 2 ? (uint8_t)(0x3c + noise % 3) : noise;
    }
    file->size = 8 + n + 4300;
}

/* Compress a plain file, or restore a compressed one. */
static znn_status transform(const memory_file *from, memory_file *to, znn_reason *reason)
{
    znn_safetensors *file;
    znn_status status = znn_safetensors_open(&file, from->data, from->size, NULL, reason);
    if (status != ZNN_OK)
        return status;
    to->calls_left = -1;
    status = (znn_safetensors_is_compressed(file) ? znn_safetensors_decompress : znn_safetensors_compress)(
        file, write_memory, to, &to->size, reason);
    znn_safetensors_free(file);
    return status;
}

static void assert_same(const memory_file *a, const memory_file *b)
{
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
}

static memory_file plain, compressed, result;

static int setup(void **state)
{
    (void)state;
    random_state = 1;
    make_plain(&plain);
    return transform(&plain, &compressed, NULL) == ZNN_OK ? 0 : -1;
}

static void test_a_file_comes_back(void **state)
{
    (void)state;
    assert_true(compressed.size < plain.size);
    assert_int_equal(transform(&compressed, &result, NULL), ZNN_OK);
    assert_same(&result, &plain);
}

static void test_tensors_are_described_as_in_the_plain_file(void **state)
{
    (void)state;
    znn_safetensors *file;
    znn_safetensors_tensor tensor;
    assert_int_equal(znn_safetensors_open(&file, compressed.data, compressed.size, NULL, NULL), ZNN_OK);
    assert_int_equal(znn_safetensors_count(file), 3);
    assert_int_equal(znn_safetensors_tensor_info(file, 0, &tensor), ZNN_OK);
    assert_string_equal(tensor.name, "w");
    assert_string_equal(tensor.dtype, "BF16");
    assert_int_equal(tensor.rank, 2);
    assert_int_equal(tensor.shape[0], 50);
    assert_int_equal(tensor.size, 4000);
    assert_true(tensor.stored_size < tensor.size);
    assert_true(znn_is_frame(compressed.data + tensor.stored_offset, tensor.stored_size));
    assert_int_equal(znn_safetensors_tensor_info(file, 1, &tensor), ZNN_OK);
    assert_int_equal(tensor.stored_size, 300);
    assert_int_equal(znn_safetensors_tensor_info(file, 3, &tensor), ZNN_ERROR_ARGUMENT);
    znn_safetensors_free(file);
}

static void test_any_range_of_a_tensor_is_read(void **state)
{
    (void)state;
    znn_safetensors *file;
    uint8_t part[4000];
    compressed.calls_left = -1;
    assert_int_equal(znn_safetensors_open_fn(&file, read_memory, &compressed, compressed.size, NULL, NULL), ZNN_OK);
    for (uint64_t offset = 0; offset < 4000; offset += 577) {
        const uint64_t size = random_below(4001 - offset);
        assert_int_equal(znn_safetensors_read(file, 0, part, offset, size, NULL), ZNN_OK);
        assert_memory_equal(part, plain.data + plain.size - 4300 + offset, size);
    }
    assert_int_equal(znn_safetensors_read(file, 0, part, 3999, 2, NULL), ZNN_ERROR_ARGUMENT);
    assert_int_equal(znn_safetensors_read(file, 3, part, 0, 1, NULL), ZNN_ERROR_ARGUMENT);
    znn_safetensors_free(file);
}

static void test_failing_reads_and_writes_end_in_errors(void **state)
{
    (void)state;
    const memory_file *sources[] = {&plain, &compressed};
    for (int calls = 0; calls < 12; calls++) {
        for (int i = 0; i < 2; i++) {
            memory_file from = *sources[i];
            znn_safetensors *file;
            znn_reason reason;
            uint64_t written;
            from.calls_left = calls;
            znn_status status = znn_safetensors_open_fn(&file, read_memory, &from, from.size, NULL, &reason);
            if (status == ZNN_OK) {
                result.calls_left = calls;
                status = (i ? znn_safetensors_decompress : znn_safetensors_compress)(file, write_memory, &result,
                                                                                     &written, &reason);
                znn_safetensors_free(file);
            }
            if (status == ZNN_OK) /* calls were enough */
                continue;
            assert_int_equal(status, ZNN_ERROR_IO);
            assert_true(reason.text[0] != 0);
        }
    }
}

/* Read every tensor, as far as its size is one that a caller would believe. */
static void read_all(const znn_safetensors *file)
{
    static uint8_t content[FILE_MAX];
    znn_safetensors_tensor tensor;
    for (uint64_t i = 0; znn_safetensors_tensor_info(file, i, &tensor) == ZNN_OK; i++)
        if (tensor.size <= sizeof content)
            znn_safetensors_read(file, i, content, tensor.size / 3, tensor.size - tensor.size / 3, NULL);
}

static void mutate(memory_file *file)
{
    static const char likely[] = "0123456789{}[]\",:\\";
    const uint64_t header = 8 + (file->data[0] | (uint64_t)file->data[1] << 8);
    for (uint32_t n = 1 + random_below(3); n > 0; n--) {
        uint8_t *byte = file->data + random_below(random_below(3) ? header : file->size);
        switch (random_below(4)) {
        case 0: *byte ^= (uint8_t)(1 << random_below(8)); break;
        case 1: *byte = (uint8_t)likely[random_below(sizeof likely - 1)]; break;
        case 2: *byte = (uint8_t)('0' + random_below(10)); break;
        default: file->size -= random_below(file->size / 20); break;
        }
    }
}

/* Bytes lie in memory of exactly their size, so that sanitizers see what reads beyond. */
static void test_mutations_never_crash_and_what_is_compressed_comes_back(void **state)
{
    (void)state;
    static memory_file mutant, back;
    for (int i = 0; i < MUTATIONS; i++) {
        mutant = i % 2 ? plain : compressed;
        mutate(&mutant);
        uint8_t *exact = malloc(mutant.size);
        assert_non_null(exact);
        memcpy(exact, mutant.data, mutant.size);
        znn_safetensors *file;
        znn_reason reason;
        znn_status status = znn_safetensors_open(&file, exact, mutant.size, NULL, &reason);
        if (status == ZNN_OK) {
            read_all(file);
            znn_safetensors_free(file);
            status = transform(&mutant, &result, &reason);
            if (status == ZNN_OK && i % 2) {
                assert_int_equal(transform(&result, &back, NULL), ZNN_OK);
                assert_same(&back, &mutant);
            }
        }
        assert_true(status == ZNN_OK || reason.text[0] != 0);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_file_comes_back, setup),
        cmocka_unit_test_setup(test_tensors_are_described_as_in_the_plain_file, setup),
        cmocka_unit_test_setup(test_any_range_of_a_tensor_is_read, setup),
        cmocka_unit_test_setup(test_failing_reads_and_writes_end_in_errors, setup),
        cmocka_unit_test_setup(test_mutations_never_crash_and_what_is_compressed_comes_back, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
