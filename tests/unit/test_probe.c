/* What probing makes of bytes that nothing describes. */
#include "plan_pieces.h"

#define CHUNK 262144u
#define BODY (1u << 20)

static plan_piece pieces[PIECES_MAX];
static uint8_t content[4 * BODY];

static uint32_t float_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

/* Made-up weights, `size` bytes of them. */
static void make(uint8_t *dst, znn_dtype dtype, size_t size)
{
    for (size_t i = 0; i < size; i += znn_dtype_size(dtype)) {
        double w = random_weight();
        uint32_t bits = float_bits((float)w), sign = bits >> 31, magnitude = bits & 0x7fffffff;
        switch (dtype) {
        case ZNN_F64: {
            uint64_t wide;
            memcpy(&wide, &w, 8);
            znn_store64(dst + i, wide ^ (random32() & 0xffff)); /* few random bits make up w */
            break;
        }
        case ZNN_F32: znn_store32(dst + i, bits); break;
        case ZNN_BF16: znn_store16(dst + i, (uint16_t)(bits >> 16)); break;
        case ZNN_F16: { /* rebias; what is too small becomes 0 */
            uint32_t least = (127u - 14) << 23;
            uint32_t rebiased = magnitude < least ? 0 : (magnitude - least + (1u << 23)) >> 13;
            znn_store16(dst + i, (uint16_t)(sign << 15 | rebiased));
            break;
        }
        case ZNN_F8_E4M3: { /* scaled so that exponents fill the range */
            magnitude = float_bits((float)(w < 0 ? -w : w) * 1024);
            uint32_t least = (127u - 6) << 23;
            dst[i] = (uint8_t)(sign << 7 | (magnitude < least ? 0 : (magnitude - least + (1u << 23)) >> 20));
            break;
        }
        case ZNN_I8: dst[i] = (uint8_t)(int8_t)(w * 800); break;
        case ZNN_I64: znn_store64(dst + i, random32() % 30000); break;
        case ZNN_I32: znn_store32(dst + i, random32() % 70000); break;
        default: return;
        }
    }
}

static void make_text(uint8_t *dst, size_t size)
{
    static const char *const words[] = {"the ",       "weights ", "of ",     "a ",      "network ", "are ",
                                        "\"name\": ", "numbers ", "whose ",  "header ", "is, in ",  "JSON",
                                        "0.25, ",     "17 ",      "text.\n", "and "};
    for (size_t i = 0; i < size;)
        for (const char *word = words[random32() % 16]; *word && i < size; word++)
            dst[i++] = (uint8_t)*word;
}

static void make_noise(uint8_t *dst, size_t size)
{
    for (size_t i = 0; i < size; i++)
        dst[i] = (uint8_t)random32();
}

/* Bytes of [begin, end) planned as dtype; floats only where elements are whole
 * counting from begin (an integer's bytes are coded apart, at any phase). */
static size_t found(size_t count, znn_dtype dtype, size_t begin, size_t end)
{
    const unsigned step = dtype >= ZNN_F8_E4M3 ? znn_dtype_size(dtype) : 1;
    size_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        size_t from = ZNN_MAX(pieces[i].at, begin), to = ZNN_MIN(pieces[i].at + pieces[i].size, end);
        if (from < to && pieces[i].dtype == dtype && (pieces[i].at + 8 * BODY - begin) % step == 0)
            sum += to - from;
    }
    return sum;
}

static void show(size_t count)
{
    for (size_t i = 0; i < count; i++)
        print_error("  %zu: %zu bytes of %s\n", pieces[i].at, pieces[i].size, znn_dtype_name(pieces[i].dtype));
}

static const znn_dtype dtypes[] = {ZNN_BF16, ZNN_F16, ZNN_F32, ZNN_F64, ZNN_F8_E4M3, ZNN_I8};

static void numbers_are_found_behind_a_header_of_any_size(void **state)
{
    (void)state;
    static const size_t headers[] = {0, 1, 2, 3, 5, 64, 1001, 8191, 30003};
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
        for (size_t h = 0; h < sizeof headers / sizeof *headers; h++) {
            make_text(content, headers[h]);
            make(content + headers[h], dtypes[d], BODY);
            size_t count = plan_all(pieces, content, headers[h] + BODY, ZNN_AUTO, CHUNK, SIZE_MAX);
            size_t right = found(count, dtypes[d], headers[h], headers[h] + BODY);
            if (right < BODY - BODY / 32) {
                show(count);
                fail_msg("%s behind %zu bytes: only %zu of %u found", znn_dtype_name(dtypes[d]), headers[h], right,
                         BODY);
            }
            /* And not at the price of many small chunks. */
            if (count > 5 + 2 * BODY / CHUNK) {
                show(count);
                fail_msg("%s behind %zu bytes: %zu pieces", znn_dtype_name(dtypes[d]), headers[h], count);
            }
        }
    }
}

static void what_is_no_number_is_bytes(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        if (kind == 0)
            make_text(content, BODY);
        else if (kind == 1)
            make_noise(content, BODY);
        else
            memset(content, 0, BODY);
        size_t count = plan_all(pieces, content, BODY, ZNN_AUTO, CHUNK, SIZE_MAX);
        assert_int_equal(found(count, ZNN_BYTES, 0, BODY), BODY);
        assert_int_equal(count, BODY / CHUNK);
    }
}

static void a_change_of_dtype_or_phase_is_found(void **state)
{
    (void)state;
    static const znn_dtype order[] = {ZNN_F32,  ZNN_BF16,    ZNN_F32, ZNN_F16, ZNN_BYTES, ZNN_F64,
                                      ZNN_BF16, ZNN_F8_E4M3, ZNN_F32, ZNN_I64, ZNN_F32};
    const size_t part = 200003; /* so that every phase is met */
    const size_t parts = sizeof order / sizeof *order;
    for (size_t i = 0; i < parts; i++) {
        if (order[i] == ZNN_BYTES)
            make_text(content + i * part, part);
        else
            make(content + i * part, order[i], part - part % znn_dtype_size(order[i]));
    }
    size_t count = plan_all(pieces, content, parts * part, ZNN_AUTO, CHUNK, SIZE_MAX);
    for (size_t i = 0; i < parts; i++) {
        size_t right = found(count, order[i], i * part, (i + 1) * part);
        if (right < part - 4096) {
            show(count);
            fail_msg("part %zu, %s: only %zu of %zu found", i, znn_dtype_name(order[i]), right, part);
        }
    }
    assert_true(count <= 3 * parts);
}

static void a_gap_does_not_lose_the_phase(void **state)
{
    (void)state;
    size_t at = 0;
    size_t begins[12];
    for (size_t i = 0; i < 12; i++) {
        make_noise(content + at, 37 * i);
        at += 37 * i;
        begins[i] = at;
        make(content + at, ZNN_F32, 160000);
        at += 160000;
    }
    size_t count = plan_all(pieces, content, at, ZNN_AUTO, CHUNK, SIZE_MAX);
    for (size_t i = 0; i < 12; i++)
        assert_true(found(count, ZNN_F32, begins[i], begins[i] + 160000) > 160000 - 512);
}

static void tiny_content_is_planned(void **state)
{
    (void)state;
    for (size_t n = 1; n < 1200; n += 1 + n / 40) {
        make(content, ZNN_F32, 1200);
        size_t count = plan_all(pieces, content, n, ZNN_AUTO, CHUNK, SIZE_MAX);
        assert_int_equal(pieces[count - 1].at + pieces[count - 1].size, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_found_behind_a_header_of_any_size),
        cmocka_unit_test(what_is_no_number_is_bytes),
        cmocka_unit_test(a_change_of_dtype_or_phase_is_found),
        cmocka_unit_test(a_gap_does_not_lose_the_phase),
        cmocka_unit_test(tiny_content_is_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
