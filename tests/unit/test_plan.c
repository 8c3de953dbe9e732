/* Where a plan cuts: safetensors by its tensors, a given dtype evenly; and that
 * the cuts depend on the content alone. */
#include "plan_pieces.h"

#include <stdio.h>

#define CHUNK 65536u

static plan_piece pieces[PIECES_MAX], again[PIECES_MAX];

/* A file with this header, padded with spaces, and `body` bytes of noise. */
static uint8_t *make_file(const char *header, size_t header_size, size_t body, size_t *size)
{
    uint8_t *file = malloc(8 + header_size + body);
    assert_non_null(file);
    znn_store64(file, header_size);
    memset(file + 8, ' ', header_size);
    memcpy(file + 8, header, ZNN_MIN(strlen(header), header_size));
    for (size_t i = 0; i < body; i++)
        file[8 + header_size + i] = (uint8_t)random32();
    *size = 8 + header_size + body;
    return file;
}

/* The piece that holds a byte. */
static const plan_piece *piece_at(size_t count, size_t at)
{
    for (size_t i = 0; i < count; i++)
        if (at < pieces[i].at + pieces[i].size)
            return &pieces[i];
    return NULL;
}

static void each_tensor_has_its_dtype(void **state)
{
    (void)state;
    /* Not in order; a gap of 100 bytes before c; 40 bytes after the last. */
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[50000],\"data_offsets\":[200000,300000]},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[50000],\"data_offsets\":[0,200000]},"
                         "\"e\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[300000,300000]},"
                         "\"c\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[300100,300116]},"
                         "\"d\":{\"dtype\":\"F4\",\"shape\":[8],\"data_offsets\":[300116,300120]}}";
    size_t size, h = 700;
    uint8_t *file = make_file(header, h, 300160, &size);
    size_t count = plan_all(pieces, file, size, ZNN_AUTO, CHUNK, 0);
    h += 8;
    assert_int_equal(pieces[0].size, h);
    assert_int_equal(pieces[0].dtype, ZNN_BYTES);
    const struct {
        size_t begin, end;
        znn_dtype dtype;
    } tensors[] = {{0, 200000, ZNN_F32},
                   {200000, 300000, ZNN_BF16},
                   {300000, 300100, ZNN_BYTES},
                   {300100, 300116, ZNN_I64},
                   {300116, 300160, ZNN_BYTES}};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        const plan_piece *first = piece_at(count, h + tensors[i].begin),
                         *last = piece_at(count, h + tensors[i].end - 1);
        assert_int_equal(first->at, h + tensors[i].begin);
        assert_true(first->starts_segment);
        for (const plan_piece *p = first; p <= last; p++)
            assert_int_equal(p->dtype, tensors[i].dtype);
    }
    free(file);
}

static void small_neighbours_share_a_segment(void **state)
{
    (void)state;
    char header[8192] = "{";
    size_t at = strlen(header);
    for (unsigned i = 0; i < 40; i++)
        at +=
            (size_t)snprintf(header + at, sizeof header - at, "%s\"t%u\":{\"dtype\":\"F32\",\"data_offsets\":[%u,%u]}",
                             i ? "," : "", i, i * 4000, (i + 1) * 4000);
    header[at] = '}';
    size_t size;
    uint8_t *file = make_file(header, at + 1, 160000, &size);
    size_t count = plan_all(pieces, file, size, ZNN_AUTO, CHUNK, 0);
    /* 16 tensors of 4000 bytes fit into 65536. */
    assert_int_equal(count, 4);
    assert_int_equal(pieces[1].size, 64000);
    assert_int_equal(pieces[2].size, 64000);
    assert_int_equal(pieces[3].size, 32000);
    free(file);
}

static void invalid_headers_are_not_believed(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "{\"a\":{\"dtype\":\"F64\",\"data_offsets\":[0,8000]},\"b\":{\"dtype\":\"F64\",\"data_offsets\":[7992,16000]}}",
        "{\"a\":{\"dtype\":\"F64\",\"data_offsets\":[-8,80000]}}",
        "{\"a\":{\"dtype\":\"F64\",\"data_offsets\":[80000,0]}}",
        "{\"a\":{\"dtype\":\"F64\",\"data_offsets\":[0,9223372036854775807]}}",
        "{\"a\":{\"dtype\":\"F64\",\"data_offsets\":[0,99223372036854775807]}}",
        "{\"a\":{\"dtype\":\"F64\",\"data_offsets\":[0,80000,160000]}}",
        "{\"a\":{\"dtype\":\"F64\",\"data_offsets\":[0,1e5]}}",
        "{\"a\":{\"dtype\":\"F64\"}}",
        "{\"a\":{\"dtype\":1,\"data_offsets\":[0,80000]}}",
        "{\"a\":7}",
        "{\"a\":{\"dtype\":\"F64\",\"data_offsets\":[0,80000]}",
        "{\"a\":{\"dtype\":\"F64\",\"data_offsets\":[0,80000]}}}",
        "{\"\xff\":{\"dtype\":\"F64\",\"data_offsets\":[0,80000]}}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        size_t size;
        uint8_t *file = make_file(headers[i], strlen(headers[i]), 160000, &size);
        size_t count = plan_all(pieces, file, size, ZNN_AUTO, CHUNK, 0);
        for (size_t k = 0; k < count; k++) /* noise, for one who only looks */
            assert_int_equal(pieces[k].dtype, ZNN_BYTES);
        free(file);
    }
}

static void hostile_headers_do_no_harm(void **state)
{
    (void)state;
    const size_t h = 1 << 20;
    char *header = malloc(h + 1);
    assert_non_null(header);
    static const char *const patterns[] = {"{\"a\":", "[", "{", "[1,", "\"\\u0000"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        size_t n = strlen(patterns[i]);
        for (size_t at = 0; at < h; at++)
            header[at] = patterns[i][at % n];
        header[0] = '{';
        header[h] = 0;
        size_t size;
        uint8_t *file = make_file(header, h, 1000, &size);
        size_t count = plan_all(pieces, file, size, ZNN_AUTO, CHUNK, 0);
        assert_true(count > 0);
        free(file);
    }
    free(header);
}

static void damaged_headers_do_no_harm(void **state)
{
    (void)state;
    const char *header = "{\"b\":{\"dtype\":\"BF16\",\"shape\":[50000],\"data_offsets\":[2000,3000]},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[500],\"data_offsets\":[0,2000]}}";
    size_t size;
    uint8_t *file = make_file(header, strlen(header), 4000, &size);
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t *copy = malloc(size);
        assert_non_null(copy);
        memcpy(copy, file, size);
        for (unsigned k = 0; k <= i % 4; k++)
            copy[8 + random32() % strlen(header)] =
                i & 1 ? (uint8_t)random32() : (uint8_t) "0123456789\"{}[],:-"[random32() % 18];
        size_t cut = i % 5 ? size : random32() % size + 1;
        size_t count = plan_all(pieces, copy, cut, ZNN_AUTO, CHUNK, 0);
        assert_int_equal(pieces[count - 1].at + pieces[count - 1].size, cut);
        free(copy);
    }
    free(file);
}

static void a_long_header_is_waited_for(void **state)
{
    (void)state;
    const size_t h = 300000;
    size_t size;
    uint8_t *file = make_file("{\"a\":{\"dtype\":\"F64\",\"data_offsets\":[0,8000]}}", h, 8000, &size);
    znn_allocator allocator = znn_allocator_from(NULL);
    znn_plan *plan = znn_plan_new(ZNN_AUTO, CHUNK, &allocator);
    znn_piece piece;
    assert_int_equal(znn_plan_next(plan, file, 2 * CHUNK, false, &piece), ZNN_OK);
    assert_int_equal(piece.size, 0);
    assert_int_equal(znn_plan_wants(plan), h + 8);
    znn_plan_free(plan);
    size_t count = plan_all(pieces, file, size, ZNN_AUTO, CHUNK, 0);
    assert_int_equal(pieces[count - 1].dtype, ZNN_F64);
    assert_int_equal(pieces[count - 1].size, 8000);
    /* Cut short inside the header, it is no safetensors file. */
    count = plan_all(pieces, file, h, ZNN_AUTO, CHUNK, 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pieces[i].dtype, ZNN_BYTES);
    free(file);
}

static void a_given_dtype_is_one_segment_without_a_small_tail(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, CHUNK, CHUNK + 1, CHUNK + 4000, 2 * CHUNK - 1, 2 * CHUNK, 5 * CHUNK + 9};
    uint8_t *content = calloc(1, 6 * CHUNK);
    assert_non_null(content);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t count = plan_all(pieces, content, sizes[s], ZNN_F64, CHUNK, 0);
        assert_int_equal(count, (sizes[s] + CHUNK - 1) / CHUNK);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(pieces[i].dtype, ZNN_F64);
            assert_int_equal(pieces[i].starts_segment, i == 0);
            assert_int_equal(pieces[i].at % 8, 0);
            assert_true(pieces[i].size >= CHUNK / 8 || count == 1);
        }
    }
    free(content);
}

/* The same pieces, however much is shown at a time. */
static void plans_depend_on_the_content_alone(void **state)
{
    (void)state;
    static const size_t sizes[] = {4 * CHUNK, 10 * CHUNK, 900001, 2 * CHUNK + 1, 700};
    uint8_t *content = malloc(1 << 20);
    assert_non_null(content);
    for (size_t i = 0; i < 1 << 20; i += 4) {
        float f = (float)random_weight();
        uint32_t bits;
        memcpy(&bits, &f, 4);
        if (i / 100000 % 3 == 1)
            bits = (bits >> 16) * 0x10001u;
        znn_store32(content + i, i / 100000 % 3 == 2 ? random32() : bits);
    }
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t count = plan_all(pieces, content, sizes[s], ZNN_AUTO, CHUNK, 0);
        static const size_t shows[] = {1, 777, CHUNK, SIZE_MAX};
        for (size_t k = 0; k < sizeof shows / sizeof *shows; k++) {
            assert_int_equal(plan_all(again, content, sizes[s], ZNN_AUTO, CHUNK, shows[k]), count);
            for (size_t i = 0; i < count; i++) {
                assert_int_equal(again[i].size, pieces[i].size);
                assert_int_equal(again[i].dtype, pieces[i].dtype);
                assert_int_equal(again[i].starts_segment, pieces[i].starts_segment);
            }
        }
    }
    free(content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_tensor_has_its_dtype),
        cmocka_unit_test(small_neighbours_share_a_segment),
        cmocka_unit_test(invalid_headers_are_not_believed),
        cmocka_unit_test(hostile_headers_do_no_harm),
        cmocka_unit_test(damaged_headers_do_no_harm),
        cmocka_unit_test(a_long_header_is_waited_for),
        cmocka_unit_test(a_given_dtype_is_one_segment_without_a_small_tail),
        cmocka_unit_test(plans_depend_on_the_content_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
