/*
 * Files that were written once, in tests/golden: each must be read for ever, and written again
 * byte for byte, by every instruction set of every machine. `test_golden --make FOLDER` writes
 * those that are not there (tests/golden/make does so).
 *
 * A file with a piece that libzstd made is only read: its bytes are those of one version of
 * libzstd. So is, by `read_only`, one that the encoder came to write in another way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>

#include "base/cpu.h"

typedef enum {
    WEIGHTS,  /* exponents that halve in number, mantissas of noise */
    ONE,      /* the same with one exponent */
    TAIL,     /* and with many rare exponents */
    FAR,      /* and with some of any exponent */
    JOINED,   /* and with mantissas whose highest bits are mostly 0 */
    PLANES,   /* WEIGHTS, the lowest byte constant, the one above of few values */
    INTEGERS, /* the lowest byte noise, the one above mostly 0, the others 0 */
    COUNT,    /* 0, 1, 2, ... */
    CONSTANT,
    NOISE,
    TEXT,
} kind;

typedef enum { FRAME, UNCHECKED, STREAM, SAFETENSORS, ZIPNN } container;

typedef struct {
    const char *name;
    znn_dtype dtype;
    kind kind;
    size_t elements;
    unsigned dropped; /* low bits that are 0 */
    size_t tail;      /* bytes after the last element */
    int level;
    container container;
    bool read_only;
} golden;

static const golden goldens[] = {
    {"bf16-256-lanes", ZNN_BF16, WEIGHTS, 33000, 0, 1, 3, FRAME, false},
    {"bf16-128-lanes", ZNN_BF16, WEIGHTS, 4500, 0, 0, 3, FRAME, false},
    {"bf16-64-lanes", ZNN_BF16, WEIGHTS, 777, 0, 0, 3, FRAME, false},
    {"bf16-tail", ZNN_BF16, TAIL, 5000, 0, 0, 3, FRAME, false},
    {"bf16-far", ZNN_BF16, FAR, 3000, 0, 0, 3, FRAME, false},
    {"bf16-one-exponent", ZNN_BF16, ONE, 1000, 0, 0, 3, FRAME, false},
    {"bf16-dropped", ZNN_BF16, WEIGHTS, 3000, 3, 0, 3, FRAME, false},
    {"bf16-fast", ZNN_BF16, WEIGHTS, 3000, 0, 1, 1, FRAME, false},
    {"bf16-max", ZNN_BF16, WEIGHTS, 20000, 3, 1, 9, FRAME, false},
    {"bf16-max-far", ZNN_BF16, FAR, 16500, 4, 0, 9, FRAME, false},
    {"bf16-max-small", ZNN_BF16, FAR, 6000, 0, 0, 9, FRAME, false},
    {"bf16-joined", ZNN_BF16, JOINED, 4200, 0, 0, 3, FRAME, false},
    {"bf16-unchecked", ZNN_BF16, WEIGHTS, 1000, 0, 0, 3, UNCHECKED, false},
    {"bf16-stream", ZNN_BF16, WEIGHTS, 2000, 0, 1, 3, STREAM, false},
    {"bf16-safetensors", ZNN_BF16, WEIGHTS, 1000, 0, 0, 3, SAFETENSORS, false},
    {"bf16-zipnn", ZNN_BF16, WEIGHTS, 3000, 0, 1, 3, ZIPNN, false},
    {"f16-256-lanes", ZNN_F16, WEIGHTS, 33000, 0, 1, 3, FRAME, false},
    {"f16-64-lanes", ZNN_F16, WEIGHTS, 1000, 0, 0, 3, FRAME, false},
    {"f16-joined", ZNN_F16, JOINED, 2000, 0, 0, 3, FRAME, false},
    {"f16-max", ZNN_F16, WEIGHTS, 4500, 0, 0, 9, FRAME, false},
    {"f8_e4m3-256-lanes", ZNN_F8_E4M3, WEIGHTS, 33000, 0, 0, 3, FRAME, false},
    {"f8_e4m3-64-lanes", ZNN_F8_E4M3, WEIGHTS, 1000, 0, 0, 3, FRAME, false},
    {"f8_e4m3-max", ZNN_F8_E4M3, WEIGHTS, 5000, 0, 0, 9, FRAME, false},
    {"f8_e5m2-128-lanes", ZNN_F8_E5M2, WEIGHTS, 5000, 0, 0, 3, FRAME, false},
    {"f8_e5m2-max", ZNN_F8_E5M2, TAIL, 17000, 0, 0, 9, FRAME, false},
    {"f32-256-lanes-clean", ZNN_F32, WEIGHTS, 33000, 19, 3, 3, FRAME, false},
    {"f32-128-lanes", ZNN_F32, WEIGHTS, 5000, 0, 2, 3, FRAME, false},
    {"f32-64-lanes", ZNN_F32, WEIGHTS, 500, 0, 0, 3, FRAME, false},
    {"f32-half", ZNN_F32, WEIGHTS, 4500, 13, 0, 3, FRAME, false},
    {"f32-bf16", ZNN_F32, WEIGHTS, 4500, 16, 0, 3, FRAME, false},
    {"f32-planes", ZNN_F32, PLANES, 5000, 0, 0, 3, FRAME, false},
    {"f32-max", ZNN_F32, WEIGHTS, 17000, 18, 2, 9, FRAME, false},
    {"f32-tiny", ZNN_F32, WEIGHTS, 1, 0, 1, 3, FRAME, false},
    {"f32-constant", ZNN_F32, CONSTANT, 300000, 0, 0, 3, FRAME, false},
    {"f64-128-lanes", ZNN_F64, PLANES, 4100, 0, 5, 3, FRAME, false},
    {"f64-f32", ZNN_F64, WEIGHTS, 1000, 29, 0, 3, FRAME, false},
    {"f64-max", ZNN_F64, WEIGHTS, 1000, 0, 0, 9, FRAME, false},
    {"i8", ZNN_I8, INTEGERS, 8000, 0, 0, 3, FRAME, false},
    {"u8", ZNN_U8, INTEGERS, 8000, 0, 0, 9, FRAME, false},
    {"i16", ZNN_I16, INTEGERS, 8000, 0, 1, 3, FRAME, false},
    {"u16", ZNN_U16, INTEGERS, 8000, 0, 0, 9, FRAME, false},
    {"i32", ZNN_I32, INTEGERS, 8000, 0, 0, 3, FRAME, false},
    {"u32", ZNN_U32, INTEGERS, 8000, 0, 3, 3, FRAME, false},
    {"i64", ZNN_I64, INTEGERS, 8000, 0, 0, 3, FRAME, false},
    {"u64", ZNN_U64, CONSTANT, 1000, 0, 0, 3, FRAME, false},
    {"bool", ZNN_BOOL, NOISE, 60, 0, 0, 3, FRAME, false},
    {"noise", ZNN_BYTES, NOISE, 1000, 0, 0, 3, FRAME, false},
    {"empty", ZNN_BYTES, NOISE, 0, 0, 0, 3, FRAME, false},
    {"text-zstd", ZNN_BYTES, TEXT, 3000, 0, 0, 3, FRAME, true},
    {"text-zstd-max", ZNN_BYTES, TEXT, 3000, 0, 0, 9, FRAME, true},
    {"i64-count-zstd", ZNN_I64, COUNT, 3000, 0, 0, 3, FRAME, true},
};
#define GOLDENS (sizeof goldens / sizeof *goldens)

typedef struct {
    uint8_t *bytes;
    size_t size;
} buffer;

static buffer room(size_t size)
{
    buffer b = {malloc(size + !size), size};
    assert_non_null(b.bytes);
    return b;
}

/* ---- content: integers only, so that it is the same on every machine ---- */

static uint64_t random_state;

static uint32_t random_number(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static uint32_t random_below(uint32_t limit)
{
    return (uint32_t)((uint64_t)random_number() * limit >> 32);
}

static void put(uint8_t *p, unsigned size, uint64_t v)
{
    for (unsigned i = 0; i < size; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static const uint8_t exponent_bits[ZNN_DTYPE_COUNT] = {[ZNN_F8_E4M3] = 4, [ZNN_F8_E5M2] = 5, [ZNN_F16] = 5,
                                                       [ZNN_BF16] = 8,    [ZNN_F32] = 8,     [ZNN_F64] = 11};

static uint64_t float_of(const golden *g)
{
    const unsigned bits = exponent_bits[g->dtype], width = 8 * znn_dtype_size(g->dtype), mantissa = width - 1 - bits;
    const uint32_t centre = (1u << bits) * 3 / 4, r = random_number();
    uint32_t exponent = centre - (g->kind == ONE ? 0 : (uint32_t)__builtin_ctz(r | 1u << 9));
    if (g->kind == TAIL && random_below(4) == 0)
        exponent = centre - random_below(centre < 40 ? centre : 40);
    if (g->kind == FAR && random_below(50) == 0)
        exponent = random_below(1u << bits);
    uint64_t v = (uint64_t)random_number() << 32 | random_number();
    v = v >> (64 - width) >> g->dropped << g->dropped; /* width bits of noise, sign and mantissa of which stay */
    if (g->kind == JOINED && random_below(8))
        v &= ~(UINT64_C(3) << (mantissa - 2));
    v &= ~(((UINT64_C(1) << bits) - 1) << mantissa);
    v |= (uint64_t)exponent << mantissa;
    if (g->kind == PLANES)
        v = (v & ~UINT64_C(0xffff)) | (random_below(8) ? 0x115a : random_below(3) << 8 | 0x5a);
    return v;
}

static uint64_t element_of(const golden *g, size_t i)
{
    switch (g->kind) {
    case INTEGERS: {
        const unsigned rare = random_below(8) ? 0 : 1 + (unsigned)__builtin_ctz(random_number() | 1u << 7);
        return znn_dtype_size(g->dtype) == 1 ? rare : rare << 8 | random_below(256);
    }
    case COUNT: return i;
    case CONSTANT: return 0x3f8ccccd;
    case NOISE: return (uint64_t)random_number() << 32 | random_number();
    case TEXT: return (uint8_t)"the quick brown fox jumps over the lazy dog, again. "[(i + i / 700) % 52];
    default: return float_of(g);
    }
}

static buffer numbers_of(const golden *g)
{
    const unsigned size = znn_dtype_size(g->dtype);
    buffer b = room(g->elements * size + g->tail);
    random_state = 1;
    for (const char *c = g->name; *c; c++) /* by its name, so that cases may come and go */
        random_state = random_state * 31 + (uint8_t)*c;
    for (size_t i = 0; i < g->elements; i++)
        put(b.bytes + i * size, size, element_of(g, i));
    for (size_t i = 0; i < g->tail; i++)
        b.bytes[g->elements * size + i] = (uint8_t)(0xa0 + i);
    return b;
}

/* A safetensors file of two tensors: the numbers, and 8 bytes that are too few to be compressed. */
static buffer safetensors_of(buffer numbers)
{
    char header[256];
    const int n = snprintf(header, sizeof header,
                           "{\"w\":{\"dtype\":\"BF16\",\"shape\":[%zu],\"data_offsets\":[0,%zu]},"
                           "\"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[%zu,%zu]}}   ",
                           numbers.size / 2, numbers.size, numbers.size, numbers.size + 8);
    buffer b = room(8 + (size_t)n + numbers.size + 8);
    put(b.bytes, 8, (uint64_t)n);
    memcpy(b.bytes + 8, header, (size_t)n);
    memcpy(b.bytes + 8 + n, numbers.bytes, numbers.size);
    put(b.bytes + 8 + n + numbers.size, 8, 12345);
    free(numbers.bytes);
    return b;
}

static buffer content_of(const golden *g)
{
    const buffer numbers = numbers_of(g);
    return g->container == SAFETENSORS ? safetensors_of(numbers) : numbers;
}

/* ---- to files and back ---- */

static int write_to_buffer(void *opaque, uint64_t offset, const void *src, size_t size)
{
    buffer *b = opaque;
    if (offset > b->size || size > b->size - offset)
        return -1;
    memcpy(b->bytes + offset, src, size);
    return 0;
}

static uint64_t by_safetensors(buffer *to, buffer from, const znn_options *options, bool compressing)
{
    znn_safetensors *file;
    uint64_t written = 0;
    assert_int_equal(znn_safetensors_open(&file, from.bytes, from.size, options, NULL), ZNN_OK);
    assert_int_equal(znn_safetensors_is_compressed(file), !compressing);
    const znn_status status = compressing ? znn_safetensors_compress(file, write_to_buffer, to, &written, NULL)
                                          : znn_safetensors_decompress(file, write_to_buffer, to, &written, NULL);
    assert_int_equal(status, ZNN_OK);
    znn_safetensors_free(file);
    return written;
}

/* Two frames, the first of which is flushed once, without a size. */
static uint64_t by_stream(buffer to, buffer from, const znn_options *options)
{
    znn_encoder *encoder;
    znn_out_buffer out = {to.bytes, to.size, 0};
    assert_int_equal(znn_encoder_new(&encoder, options), ZNN_OK);
    const size_t ends[] = {from.size / 4, from.size / 2, from.size};
    for (unsigned i = 0; i < 3; i++) {
        const size_t begin = i ? ends[i - 1] : 0;
        znn_in_buffer in = {from.bytes + begin, ends[i] - begin, 0};
        size_t pending;
        assert_int_equal(znn_encoder_run(encoder, &out, &in, i ? ZNN_END : ZNN_FLUSH, &pending), ZNN_OK);
        assert_true(in.pos == in.size && pending == 0);
    }
    znn_encoder_free(encoder);
    return out.pos;
}

static buffer written(const golden *g, buffer content, int threads)
{
    znn_options options;
    znn_options_init(&options);
    options.dtype = g->dtype;
    options.level = g->level;
    options.threads = threads;
    options.checksum = g->container != UNCHECKED;
    buffer b = room((size_t)znn_compress_bound(content.size) + 4096);
    uint64_t size = 0;
    znn_zipnn_options zipnn;
    switch (g->container) {
    case SAFETENSORS: size = by_safetensors(&b, content, &options, true); break;
    case STREAM: size = by_stream(b, content, &options); break;
    case ZIPNN:
        znn_zipnn_options_init(&zipnn);
        zipnn.dtype = g->dtype;
        assert_int_equal(znn_zipnn_compress(b.bytes, b.size, &size, content.bytes, content.size, &zipnn), ZNN_OK);
        break;
    default: assert_int_equal(znn_compress(b.bytes, b.size, &size, content.bytes, content.size, &options), ZNN_OK);
    }
    b.size = (size_t)size;
    return b;
}

static buffer read_back(const golden *g, buffer file, size_t content_size)
{
    buffer b = room(content_size);
    uint64_t size = 0;
    switch (g->container) {
    case SAFETENSORS: size = by_safetensors(&b, file, NULL, false); break;
    case ZIPNN:
        assert_int_equal(znn_zipnn_decompress(b.bytes, b.size, &size, file.bytes, file.size, NULL), ZNN_OK);
        break;
    default: assert_int_equal(znn_decompress(b.bytes, b.size, &size, file.bytes, file.size, NULL), ZNN_OK);
    }
    assert_int_equal(size, content_size);
    return b;
}

static void path_of(const golden *g, const char *folder, char path[4096])
{
    static const char *const suffixes[] = {"znn", "znn", "znn", "safetensors", "zipnn"};
    snprintf(path, 4096, "%s/%s.%s", folder, g->name, suffixes[g->container]);
}

static buffer load(const golden *g)
{
    char path[4096];
    path_of(g, GOLDEN, path);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s is not there: tests/golden/make writes it", path);
    buffer b = room(1 << 20);
    b.size = fread(b.bytes, 1, b.size, f);
    fclose(f);
    return b;
}

/* ---- the tests ---- */

#define FOR_ALL_PATHS(isa)                                                                                             \
    for (int isa = ZNN_ISA_SCALAR; isa <= ZNN_ISA_AVX512; isa++)                                                       \
        if (znn_cpu_isa_use((znn_isa_level)isa))

static void every_file_is_read(void **state)
{
    (void)state;
    for (const golden *g = goldens; g < goldens + GOLDENS; g++) {
        const buffer content = content_of(g), file = load(g);
        FOR_ALL_PATHS(isa)
        {
            const buffer back = read_back(g, file, content.size);
            if (memcmp(back.bytes, content.bytes, content.size) != 0)
                fail_msg("%s is read as something else with %s", g->name, znn_isa());
            free(back.bytes);
        }
        free(content.bytes), free(file.bytes);
    }
}

static void every_file_is_written_again(void **state)
{
    (void)state;
    for (const golden *g = goldens; g < goldens + GOLDENS; g++) {
        const buffer content = content_of(g), file = load(g);
        FOR_ALL_PATHS(isa)
        {
            for (int threads = 1; threads <= 2 && !g->read_only; threads++) {
                const buffer again = written(g, content, threads);
                if (again.size != file.size || memcmp(again.bytes, file.bytes, file.size) != 0)
                    fail_msg("%s is written in another way with %s", g->name, znn_isa());
                free(again.bytes);
            }
        }
        free(content.bytes), free(file.bytes);
    }
}

/* What the files show of the format, so that none of it is left out. */
typedef struct {
    bool method[16], dtype[ZNN_DTYPE_COUNT], coder[8], lanes_log[9], spread[2], form[4];
    bool joined, dropped, patches, escapes;
} shown;

#define FORM_ZSTD 3

static void show_payload(shown *s, const znn_chunk_info *chunk, const uint8_t *payload)
{
    s->method[chunk->method] = s->dtype[chunk->dtype] = true;
    if (chunk->method == ZNN_METHOD_GROUPS)
        for (unsigned i = 0; i < znn_dtype_size(chunk->dtype); i++)
            s->form[payload[i] & 3] = true;
    if (chunk->method != ZNN_METHOD_FLOAT)
        return;
    s->coder[payload[0] & 7] = true;
    s->joined |= payload[2] > exponent_bits[chunk->dtype] && payload[0] == 0;
    s->dropped |= payload[3] > 0;
    for (unsigned p = 0; p < 8; p++)
        s->form[(payload[6] | payload[7] << 8) >> 2 * p & 3] = true;
    s->patches |= payload[8] > 0;
    if (payload[0] != 0) /* what follows is the narrow coder's */
        return;
    s->lanes_log[payload[1] % 9] = true;
    s->escapes |= payload[12] > 0;
    s->spread[payload[17] >> 7] = true;
}

static void the_files_show_all_of_the_format(void **state)
{
    (void)state;
    shown all[2]; /* of those written again, and of all */
    memset(all, 0, sizeof all);
    for (const golden *g = goldens; g < goldens + GOLDENS; g++) {
        const buffer file = load(g);
        znn_reader *reader;
        znn_frame_info info = {0};
        if (g->container <= STREAM) {
            assert_int_equal(znn_reader_open(&reader, file.bytes, file.size, NULL), ZNN_OK);
            assert_int_equal(znn_reader_info(reader, &info), ZNN_OK);
            for (uint64_t i = 0; i < info.chunks; i++) {
                znn_chunk_info chunk;
                assert_int_equal(znn_reader_chunk(reader, i, &chunk), ZNN_OK);
                for (unsigned which = g->read_only; which < 2; which++)
                    show_payload(&all[which], &chunk, file.bytes + chunk.stored_offset + 20);
            }
            znn_reader_free(reader);
        }
        free(file.bytes);
    }
    assert_false(all[0].method[ZNN_METHOD_ZSTD] || all[0].form[FORM_ZSTD]);
    const shown s = all[1];
    for (unsigned i = 0; i <= ZNN_METHOD_GROUPS; i++)
        assert_true(s.method[i]);
    for (unsigned i = ZNN_BYTES; i < ZNN_DTYPE_COUNT; i++)
        assert_true(s.dtype[i]);
    for (unsigned i = 0; i < 4; i++)
        assert_true(s.form[i]);
    assert_true(s.coder[0] && s.coder[1] && s.coder[2]);
    assert_true(s.lanes_log[6] && s.lanes_log[7] && s.lanes_log[8]);
    assert_true(s.spread[0] && s.spread[1]);
    assert_true(s.joined && s.dropped && s.patches && s.escapes);
}

/* One that no case is for would be read by nobody. */
static void no_file_is_forgotten(void **state)
{
    (void)state;
    DIR *folder = opendir(GOLDEN);
    assert_non_null(folder);
    size_t files = 0;
    for (const struct dirent *entry; (entry = readdir(folder));)
        files += strchr(entry->d_name, '.') > entry->d_name;
    closedir(folder);
    assert_int_equal(files, GOLDENS);
}

/* ---- making them ---- */

static void make(const golden *g, const char *folder)
{
    char path[4096];
    path_of(g, folder, path);
    FILE *f = fopen(path, "wbx");
    if (!f)
        return; /* it is there, and stays as it is */
    const buffer content = content_of(g), file = written(g, content, 1);
    const bool ok = fwrite(file.bytes, 1, file.size, f) == file.size;
    if (fclose(f) != 0 || !ok)
        exit(1);
    printf("%7zu of %7zu  %s\n", file.size, content.size, path);
    free(content.bytes), free(file.bytes);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--make") == 0) {
        for (const golden *g = goldens; g < goldens + GOLDENS; g++)
            make(g, argv[2]);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_is_read),
        cmocka_unit_test(every_file_is_written_again),
        cmocka_unit_test(the_files_show_all_of_the_format),
        cmocka_unit_test(no_file_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
