/* A payload that says all that the content needs, and more, is refused, though no checksum would tell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chunk/chunk.h"

#define ELEMENTS_MAX 6000
#define HEADER 16 /* docs/FORMAT.md, "Float" */
#define AT_PATCHES 8
#define AT_ESCAPES 12
#define NARROW 0

static znn_chunk_coder *encoder, *decoder;
static uint8_t content[2 * ELEMENTS_MAX], back[2 * ELEMENTS_MAX], *payload;
static znn_chunk chunk;

static int setup(void **state)
{
    (void)state;
    znn_options options;
    znn_options_init(&options);
    const znn_allocator allocator = znn_allocator_from(&options);
    encoder = znn_chunk_coder_new(1 << 16, 1, &allocator);
    decoder = znn_chunk_coder_new(1 << 16, 0, &allocator);
    payload = malloc(znn_chunk_encode_room(sizeof content) + 64);
    return encoder && decoder && payload ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    znn_chunk_coder_free(encoder);
    znn_chunk_coder_free(decoder);
    free(payload);
    return 0;
}

/* BF16 whose exponents fall off by half each, so that some are rare enough to be escaped. */
static void encode(size_t elements)
{
    uint64_t random = elements;
    for (size_t i = 0; i < elements; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const unsigned exponent = 120 - (unsigned)__builtin_ctzll(random >> 33 | 1u << 14);
        znn_store16(content + 2 * i, (uint16_t)((random >> 20 & 0x807f) | exponent << 7));
    }
    assert_int_equal(znn_chunk_encode(encoder, payload, content, 2 * elements, ZNN_BF16, 3, false, &chunk), ZNN_OK);
    assert_int_equal(chunk.method, ZNN_METHOD_FLOAT);
    assert_int_equal(payload[0], NARROW);
}

static znn_status decode(void)
{
    return znn_chunk_decode(decoder, back, payload, chunk.stored_size + 64, &chunk, false, false);
}

static void a_refill_too_many(void **state)
{
    (void)state;
    encode(ELEMENTS_MAX);
    assert_int_equal(decode(), ZNN_OK);
    assert_memory_equal(back, content, sizeof content);
    payload[chunk.stored_size++] = 0;
    assert_int_equal(decode(), ZNN_ERROR_FORMAT);
}

/* Where the last byte of their list has room for one more. */
static void an_escape_too_many(void **state)
{
    (void)state;
    unsigned found = 0;
    for (size_t elements = ELEMENTS_MAX - 64; elements <= ELEMENTS_MAX; elements++) {
        encode(elements);
        const uint32_t escapes = znn_load32(payload + AT_ESCAPES);
        assert_true(escapes > 0);
        znn_store32(payload + AT_ESCAPES, escapes + 1);
        assert_int_equal(decode(), ZNN_ERROR_FORMAT);
        /* One too few leaves a place in the list that nobody takes. */
        znn_store32(payload + AT_ESCAPES, escapes - 1);
        assert_int_equal(decode(), ZNN_ERROR_FORMAT);
        found += escapes % 8 != 0;
    }
    assert_true(found > 0);
}

/* Its position is behind the last element, where there is nothing to mend. */
static void a_patch_too_many(void **state)
{
    (void)state;
    encode(ELEMENTS_MAX);
    const uint32_t patches = znn_load32(payload + AT_PATCHES), escapes = znn_load32(payload + AT_ESCAPES);
    assert_int_equal(patches, 0); /* so the list would begin before the escapes; found by trying */
    bool fitted = false;
    const size_t size = chunk.stored_size;
    uint8_t *whole = malloc(size + 4);
    assert_non_null(whole);
    for (size_t at = HEADER; at <= size; at++) {
        memcpy(whole, payload, at);
        memcpy(whole + at, "\xff\xff\x01\x00", 4);
        memcpy(whole + at + 4, payload + at, size - at);
        znn_store32(whole + AT_PATCHES, 4);
        znn_store32(whole + AT_ESCAPES, escapes);
        chunk.stored_size = (uint32_t)size + 4;
        memset(back, 0, sizeof back);
        const znn_status status = znn_chunk_decode(decoder, back, whole, size + 4, &chunk, false, false);
        if (memcmp(back, content, sizeof content) == 0) { /* everything else was right */
            fitted = true;
            assert_int_equal(status, ZNN_ERROR_FORMAT);
        }
    }
    free(whole);
    assert_true(fitted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refill_too_many),
        cmocka_unit_test(an_escape_too_many),
        cmocka_unit_test(a_patch_too_many),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
