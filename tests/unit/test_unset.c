/*
 * Nothing depends on memory that nobody set. Vectors read beyond the ends of planes, lists and streams, and what
 * stands there must not reach the result: whatever lies in fresh memory, on the stack, behind a payload and in the
 * result's place, decoders and encoders give the same bytes and the same answers.
 */
#include "weights.h"

#include "base/cpu.h"
#include "chunk/chunk.h"
#include "chunk/paths.h"

#define STACK (256u << 10) /* more than any function of the library takes */
#define BEYOND 64          /* bytes that decoders may read behind a payload: see chunk.h */
#define CONTENT_MAX (320u << 10)

#define FOR_ALL_PATHS(isa)                                                                                             \
    for (int isa = ZNN_ISA_SCALAR; isa <= ZNN_ISA_AVX512; isa++)                                                       \
        if (znn_cpu_isa_use((znn_isa_level)isa))

/* ---- what lies in memory ---- */

typedef enum { ZEROS, ONES, RANDOM, FILLINGS } filling;

static void fill(void *memory, size_t size, filling with)
{
    memset(memory, with == ZEROS ? 0 : 255, size);
    uint32_t word = 1;
    for (size_t i = 0; with == RANDOM && i + 4 <= size; i += 4) {
        word = word * 1664525 + 1013904223;
        memcpy((uint8_t *)memory + i, &word, 4);
    }
}

static void *filled(void *opaque, size_t size)
{
    void *p = malloc(size);
    if (p)
        fill(p, size, *(const filling *)opaque);
    return p;
}

static void free_filled(void *opaque, void *address)
{
    (void)opaque;
    free(address);
}

/* What the functions that are called next find in their variables. */
static __attribute__((noinline)) void fill_stack(filling with)
{
    uint8_t stack[STACK];
    fill(stack, sizeof stack, with);
    __asm__ volatile("" : : "r"(stack) : "memory");
}

/* A coder in such memory, that has not been used. */
static znn_chunk_coder *coder_in(filling *with, int for_encoding)
{
    const znn_allocator allocator = {filled, free_filled, with};
    znn_chunk_coder *coder = znn_chunk_coder_new(CONTENT_MAX, for_encoding, &allocator);
    assert_non_null(coder);
    return coder;
}

/* ---- planes ---- */

#define GROUPS 3

static void join_by_any(const znn_fields *f, uint8_t *dst, const uint8_t *codes, const znn_symbols *symbols,
                        const uint16_t by_code[256], uint8_t *const planes[ZNN_PLANES_MAX])
{
    const znn_paths *paths = znn_paths_chosen();
    const uint8_t *const *from = (const uint8_t *const *)planes;
    const bool known = paths->knows && paths->knows(f);
    znn_join_tables tables;
    znn_fields_tables(&tables, f, symbols, by_code);
    if (known && symbols)
        paths->join(f, dst, GROUPS, codes, symbols, from);
    else if (known && paths->join_bytes)
        paths->join_bytes(f, dst, GROUPS, codes, by_code, from);
    else
        znn_fields_join(f, &tables, dst, GROUPS, codes, from);
}

static void check_planes(const znn_fields *f, bool by_index)
{
    znn_symbols symbols;
    uint16_t by_code[256];
    uint8_t codes[GROUPS * ZNN_GROUP + BEYOND], *planes[ZNN_PLANES_MAX] = {0};
    for (unsigned i = 0; i < 64; i++)
        symbols.of[i] = (uint16_t)random_below(1u << f->symbol_bits);
    for (unsigned i = 0; i < 256; i++)
        by_code[i] = (uint16_t)random_below(1u << f->symbol_bits);
    for (size_t i = 0; i < GROUPS * ZNN_GROUP; i++)
        codes[i] = (uint8_t)random_below(by_index ? 64 : 256);
    for (unsigned p = 0; p < ZNN_PLANES_MAX; p++)
        if (p < f->byte_planes || p == ZNN_TOP_PLANE) {
            planes[p] = room(GROUPS * znn_plane_group_size(f, p) + BEYOND);
            fill_random(planes[p], GROUPS * znn_plane_group_size(f, p));
        }
    const size_t size = GROUPS * ZNN_GROUP * (size_t)f->element_size;
    uint8_t *expected = room(size), *joined = room(size);
    /* every bit beyond the end, set and not set, beside others of any kind */
    for (unsigned i = 0; i < 12; i++) {
        fill_random(codes + GROUPS * ZNN_GROUP, BEYOND);
        for (unsigned p = 0; p < ZNN_PLANES_MAX; p++)
            if (planes[p] && i < 2)
                fill(planes[p] + GROUPS * znn_plane_group_size(f, p), BEYOND, i ? ONES : ZEROS);
            else if (planes[p])
                fill_random(planes[p] + GROUPS * znn_plane_group_size(f, p), BEYOND);
        join_by_any(f, i ? joined : expected, codes, by_index ? &symbols : NULL, by_code, planes);
        if (i)
            assert_memory_equal(joined, expected, size);
    }
    for (unsigned p = 0; p < ZNN_PLANES_MAX; p++)
        free(planes[p]);
    free(expected), free(joined);
}

static void elements_do_not_depend_on_what_is_beyond_the_planes(void **state)
{
    (void)state;
    random_state = 1;
    FOR_ALL_PATHS(isa)
    {
        for (unsigned size = 1; size <= 8; size *= 2)
            for (unsigned drop = 0; drop < 8 * size; drop++)
                for (unsigned bits = 1; bits <= 15; bits++) {
                    znn_fields f;
                    if (!znn_fields_init(&f, size, drop, bits))
                        continue;
                    check_planes(&f, true);
                    check_planes(&f, false);
                }
    }
}

/* ---- chunks ---- */

/* The payload, with room for what is beyond it. */
static uint8_t *encode(const uint8_t *content, size_t n, znn_dtype dtype, int level, znn_chunk *chunk)
{
    uint8_t *first = NULL;
    for (filling with = ZEROS; with < FILLINGS; with++) {
        znn_chunk_coder *coder = coder_in(&with, 1);
        uint8_t *payload = room(znn_chunk_encode_room(n) + BEYOND);
        znn_chunk c;
        fill(payload, znn_chunk_encode_room(n), with);
        fill_stack(with);
        assert_int_equal(znn_chunk_encode(coder, payload, content, n, dtype, level, true, &c), ZNN_OK);
        znn_chunk_coder_free(coder);
        if (first) {
            assert_int_equal(c.stored_size, chunk->stored_size);
            assert_int_equal(c.method, chunk->method);
            assert_true(c.checksum == chunk->checksum);
            assert_memory_equal(payload, first, c.stored_size);
            free(payload);
        } else {
            first = payload;
            *chunk = c;
        }
    }
    return first;
}

static znn_status decode(uint8_t *dst, uint8_t *payload, const znn_chunk *chunk, bool verify, bool large, filling with)
{
    fill(payload + chunk->stored_size, BEYOND, with);
    fill(dst, chunk->content_size, with);
    znn_chunk_coder *coder = coder_in(&with, 0);
    fill_stack(with);
    const znn_status status =
        znn_chunk_decode(coder, dst, payload, chunk->stored_size + BEYOND, chunk, verify, large);
    znn_chunk_coder_free(coder);
    return status;
}

/* Content that comes back, whatever lay in memory; numbers of a dtype, taken for those of another. */
static void check_content(size_t n, znn_dtype numbers, znn_dtype dtype, kind k)
{
    const size_t from = random_below(64);
    uint8_t *content = room(n), *dst = room(from + n);
    fill_content(content, n, numbers, k);
    znn_chunk chunk;
    uint8_t *payload = encode(content, n, dtype, random_below(3) ? 3 : 9, &chunk);
    const bool verify = random_below(2), large = random_below(2);
    for (filling with = ZEROS; with < FILLINGS; with++) {
        assert_int_equal(decode(dst + from, payload, &chunk, verify, large, with), ZNN_OK);
        assert_memory_equal(dst + from, content, n);
    }
    free(content), free(dst), free(payload);
}

#define FLOATS (sizeof dtypes / sizeof *dtypes)

static void chunks_do_not_depend_on_what_lies_in_memory(void **state)
{
    (void)state;
    random_state = 2;
    static const size_t large[] = {4096, 8200, 17000, 32768, 33000};
    FOR_ALL_PATHS(isa)
    {
        for (size_t d = 0; d < FLOATS; d++)
            for (kind k = 0; k < KINDS; k++) {
                const unsigned size = znn_dtype_size(dtypes[d]);
                for (unsigned i = 0; i < 12; i++)
                    check_content((1 + random_below(2000)) * size + random_below(size), dtypes[d], dtypes[d], k);
                check_content(large[(d + k) % 5] * size + random_below(size), dtypes[d], dtypes[d], k);
            }
        for (unsigned i = 0; i < 8; i++)
            check_content(1 + random_below(9000), i % 2 ? ZNN_BF16 : ZNN_F8_E4M3, i % 2 ? ZNN_I16 : ZNN_U8, WEIGHTS);
    }
}

/* What is damaged has the same answer, and the same content where it is one. */
static void damage_has_an_answer_that_does_not_depend_on_memory(void **state)
{
    (void)state;
    random_state = 3;
    FOR_ALL_PATHS(isa)
    {
        for (unsigned sample = 0; sample < 8 * KINDS; sample++) {
            const znn_dtype dtype = dtypes[sample % FLOATS];
            const unsigned size = znn_dtype_size(dtype);
            const size_t n = (random_below(6) ? 1 + random_below(3000) : 33000) * size + random_below(size);
            uint8_t *content = room(n), *first = room(n), *again = room(n);
            fill_content(content, n, dtype, (kind)(sample / 8));
            znn_chunk chunk;
            uint8_t *payload = encode(content, n, dtype, sample % 3 ? 3 : 9, &chunk);
            for (unsigned damage = 0; damage < 10; damage++) {
                const uint32_t where = random_below(damage % 2 ? chunk.stored_size : ZNN_MIN(chunk.stored_size, 80));
                const uint8_t was = payload[where];
                payload[where] ^= (uint8_t)(1u << random_below(8));
                const znn_status status = decode(first, payload, &chunk, false, false, ZEROS);
                for (filling with = ONES; with < FILLINGS; with++) {
                    assert_int_equal(decode(again, payload, &chunk, false, false, with), status);
                    if (status == ZNN_OK)
                        assert_memory_equal(again, first, n);
                }
                payload[where] = was;
            }
            free(content), free(first), free(again), free(payload);
        }
    }
}

/* ---- ZipNN's streams ---- */

static void zipnn_streams_do_not_depend_on_what_lies_in_memory(void **state)
{
    (void)state;
    random_state = 4;
    FOR_ALL_PATHS(isa)
    {
        for (unsigned sample = 0; sample < 60; sample++) {
            static const znn_dtype known[] = {ZNN_BF16, ZNN_F16, ZNN_F32, ZNN_F8_E4M3};
            const znn_dtype dtype = known[sample % 4];
            const size_t n = 1 + random_below(sample % 10 ? 8000 : 300000), damage = random_below(3);
            uint8_t *content = room(n), *back[FILLINGS];
            fill_content(content, n, dtype, (kind)(sample % KINDS));
            znn_zipnn_options options;
            znn_zipnn_options_init(&options);
            options.dtype = dtype;
            options.alloc = filled;
            options.free = free_filled;
            uint8_t *stream = NULL;
            uint64_t size = 0, again_size;
            for (filling with = ZEROS; with < FILLINGS; with++) {
                options.opaque = &with;
                const uint64_t bound = znn_zipnn_bound(n, &options);
                uint8_t *again = room(bound);
                fill(again, bound, with);
                fill_stack(with);
                assert_int_equal(znn_zipnn_compress(again, bound, &again_size, content, n, &options), ZNN_OK);
                if (stream) {
                    assert_int_equal(again_size, size);
                    assert_memory_equal(again, stream, size);
                    free(again);
                } else {
                    stream = again;
                    size = again_size;
                }
            }
            if (damage)
                stream[random_below((uint32_t)size)] ^= (uint8_t)(1u << random_below(8));
            znn_status first = ZNN_OK;
            for (filling with = ZEROS; with < FILLINGS; with++) {
                znn_options how;
                znn_options_init(&how);
                how.alloc = filled;
                how.free = free_filled;
                how.opaque = &with;
                back[with] = room(n);
                fill(back[with], n, with);
                fill_stack(with);
                uint64_t back_size = 0;
                const znn_status status = znn_zipnn_decompress(back[with], n, &back_size, stream, size, &how);
                assert_true(damage || status == ZNN_OK);
                if (with)
                    assert_int_equal(status, first);
                first = status;
                if (status == ZNN_OK)
                    assert_memory_equal(back[with], damage ? back[0] : content, back_size);
            }
            for (filling with = ZEROS; with < FILLINGS; with++)
                free(back[with]);
            free(content), free(stream);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_do_not_depend_on_what_is_beyond_the_planes),
        cmocka_unit_test(chunks_do_not_depend_on_what_lies_in_memory),
        cmocka_unit_test(damage_has_an_answer_that_does_not_depend_on_memory),
        cmocka_unit_test(zipnn_streams_do_not_depend_on_what_lies_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
