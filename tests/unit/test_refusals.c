/* What no checksum tells, and is refused all the same: payloads that hold all that the content needs, and more, and
 * frames whose parts do not agree. Each is otherwise right, so that one check alone stands in its way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chunk/chunk.h"
#include "entropy/narrow.h"
#include "frame/layout.h"

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

/* Its last element would be written beyond the content. */
static void a_constant_that_ends_within_an_element(void **state)
{
    (void)state;
    memset(back, 7, sizeof back);
    memset(payload, 1, 4);
    chunk = (znn_chunk){.content_size = 6, .stored_size = 4, .dtype = ZNN_F32, .method = ZNN_METHOD_CONSTANT};
    assert_int_equal(decode(), ZNN_ERROR_FORMAT);
    assert_int_equal(back[6], 7);
    chunk.content_size = 8;
    assert_int_equal(decode(), ZNN_OK);
}

/* The first that has more bits than symbols have. */
static void a_symbol_of_too_many_bits(void **state)
{
    (void)state;
    /* two indices, 0 and 1, half of the slots each; the far symbol stands for index 0 */
    uint8_t written[16] = {0, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 128, 128};
    znn_narrow_table table;
    znn_store16(written + 14, 192);
    assert_int_equal(znn_narrow_table_read(&table, 8, written, sizeof written), sizeof written);
    assert_int_equal(table.symbol[0], 192);
    znn_store16(written + 14, 256);
    assert_int_equal(znn_narrow_table_read(&table, 8, written, sizeof written), 0);
}

/* ---- Frames ---- */

#define CONTENT 1000

/* What the frame of two constant chunks claims, of which a test changes something. */
typedef struct {
    uint64_t content_size; /* in the header */
    znn_chunk chunk;       /* the second block's header */
    uint32_t padding;      /* bytes after the second block's payload */
    uint32_t entry;        /* the second block's size in the table */
} claims;

static claims sound(void)
{
    const znn_chunk constant = {
        .content_size = CONTENT, .stored_size = 1, .dtype = ZNN_BYTES, .method = ZNN_METHOD_CONSTANT};
    return (claims){.content_size = 2 * CONTENT, .chunk = constant, .entry = ZNN_BLOCK_HEADER_SIZE + 1};
}

/* Without checksums of the content; those of header and table are right. Returns its size; *blocks_end: where its end
 * block begins. */
static size_t make_frame(uint8_t *frame, const claims *c, size_t *blocks_end)
{
    const znn_chunk first = sound().chunk;
    const znn_header header = {.version = 1, .chunk_log = 16, .content_size = c->content_size};
    memset(frame, 0, 512);
    znn_header_write(frame, &header);
    size_t at = ZNN_HEADER_SIZE;
    znn_block_write(frame + at, &first, true);
    at += ZNN_BLOCK_HEADER_SIZE + 1;
    znn_block_write(frame + at, &c->chunk, false);
    at += ZNN_BLOCK_HEADER_SIZE + 1 + c->padding;
    *blocks_end = at;
    uint8_t *const end = frame + at;
    end[0] = ZNN_BLOCK_END;
    at += ZNN_END_HEADER_SIZE;
    znn_store32(frame + at, CONTENT);
    znn_store32(frame + at + 4, ZNN_BLOCK_HEADER_SIZE + 1);
    znn_store32(frame + at + 8, CONTENT);
    znn_store32(frame + at + 12, c->entry);
    at += 16;
    znn_hasher hasher;
    znn_hasher_begin(&hasher);
    znn_hasher_update(&hasher, end, ZNN_END_HEADER_SIZE + 16);
    const znn_trailer trailer = {.chunks = 2, .content_size = 2 * CONTENT, .frame_size = at + ZNN_TRAILER_SIZE};
    znn_trailer_write(frame + at, &trailer, &hasher);
    return at + ZNN_TRAILER_SIZE;
}

static znn_status decompress(const uint8_t *frame, size_t size)
{
    uint64_t n;
    return znn_decompress(back, sizeof back, &n, frame, size, NULL);
}

/* What a stream says of the frame's first `size` bytes. */
static znn_status stream(const uint8_t *frame, size_t size)
{
    znn_decoder *d;
    assert_int_equal(znn_decoder_new(&d, NULL), ZNN_OK);
    znn_in_buffer in = {frame, size, 0};
    znn_out_buffer out = {back, sizeof back, 0};
    const znn_status status = znn_decoder_run(d, &out, &in, NULL);
    znn_decoder_free(d);
    return status;
}

static void a_frame_is_sound_where_nothing_is_changed(void **state)
{
    (void)state;
    uint8_t frame[512];
    const claims c = sound();
    size_t blocks_end, size = make_frame(frame, &c, &blocks_end);
    assert_int_equal(decompress(frame, size), ZNN_OK);
    assert_int_equal(stream(frame, size), ZNN_OK);
}

/* Before a byte of it is waited for: there is room for no more than a chunk's content. */
static void a_payload_larger_than_its_content(void **state)
{
    (void)state;
    uint8_t frame[512];
    claims c = sound();
    c.chunk.stored_size = CONTENT + 1;
    size_t blocks_end;
    make_frame(frame, &c, &blocks_end);
    assert_int_equal(stream(frame, blocks_end - 1), ZNN_ERROR_FORMAT);
}

static void chunks_beyond_the_size_in_the_header(void **state)
{
    (void)state;
    uint8_t frame[512];
    claims c = sound();
    c.content_size = 2 * CONTENT - 1;
    size_t blocks_end;
    make_frame(frame, &c, &blocks_end);
    assert_int_equal(stream(frame, blocks_end - 1), ZNN_ERROR_FORMAT);
}

/* Told by the table alone, with no block looked at. */
static void a_table_that_leaves_bytes_to_no_block(void **state)
{
    (void)state;
    uint8_t frame[512];
    claims c = sound();
    c.padding = 1;
    uint64_t n;
    size_t blocks_end, size = make_frame(frame, &c, &blocks_end);
    assert_int_equal(znn_content_size(frame, size, &n), ZNN_ERROR_FORMAT);
}

static void a_block_smaller_than_the_table_says(void **state)
{
    (void)state;
    uint8_t frame[512];
    claims c = sound();
    c.padding = 1;
    c.entry++;
    uint64_t n;
    size_t blocks_end, size = make_frame(frame, &c, &blocks_end);
    assert_int_equal(znn_content_size(frame, size, &n), ZNN_OK);
    assert_int_equal(decompress(frame, size), ZNN_ERROR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refill_too_many),
        cmocka_unit_test(an_escape_too_many),
        cmocka_unit_test(a_patch_too_many),
        cmocka_unit_test(a_constant_that_ends_within_an_element),
        cmocka_unit_test(a_symbol_of_too_many_bits),
        cmocka_unit_test(a_frame_is_sound_where_nothing_is_changed),
        cmocka_unit_test(a_payload_larger_than_its_content),
        cmocka_unit_test(chunks_beyond_the_size_in_the_header),
        cmocka_unit_test(a_table_that_leaves_bytes_to_no_block),
        cmocka_unit_test(a_block_smaller_than_the_table_says),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
