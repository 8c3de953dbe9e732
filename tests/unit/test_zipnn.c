/*
 * ZipNN's streams and huff0 blocks: what is written comes back, libzstd reads
 * the blocks too, and hostile input ends in an error. The exchange with the
 * package zipnn is in tests/test_zipnn.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <zstd.h>

#include "base/cpu.h"
#include "zipnn/groups.h"
#include "zipnn/huff0.h"

static uint64_t random_state;

static uint32_t random_number(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static int reset_random(void **state)
{
    (void)state;
    random_state = 20;
    return 0;
}

/* Each next symbol half as likely, from `first` on, over at most `symbols`. */
static void fill_skewed(uint8_t *dst, size_t size, unsigned first, unsigned symbols)
{
    for (size_t i = 0; i < size; i++) {
        unsigned s = (unsigned)__builtin_ctz(random_number() | 1u << 30);
        dst[i] = (uint8_t)(first + s % symbols);
    }
}

static void fill_uniform(uint8_t *dst, size_t size, unsigned first, unsigned symbols)
{
    for (size_t i = 0; i < size; i++)
        dst[i] = (uint8_t)(first + random_number() % symbols);
}

/* Exponents with mantissa bits below them, of at most `symbols`, as FP8 and the high bytes of FP16 are. */
static void fill_mixed(uint8_t *dst, size_t size, unsigned symbols)
{
    for (size_t i = 0; i < size; i++)
        dst[i] = (uint8_t)(((unsigned)__builtin_ctz(random_number() | 1u << 20) * 16 + random_number() % 16) % symbols);
}

/* About as weights have them: the top byte of few values. */
static void fill_numbers(uint8_t *dst, size_t size, unsigned width)
{
    for (size_t i = 0; i < size; i++)
        dst[i] = (uint8_t)(i % width == width - 1 ? 0x38u + (unsigned)__builtin_ctz(random_number() | 256)
                                                  : random_number());
}

/* ---- Blocks ---- */

/* A block inside a zstd frame of one compressed block without sequences. */
static size_t decode_by_zstd(uint8_t *dst, size_t dst_size, const uint8_t *block, size_t size)
{
    uint8_t *frame = malloc(size + 64), *at = frame;
    uint8_t literals[8], block_head[4];
    znn_store64(literals, 2 | 3 << 2 | (uint64_t)dst_size << 4 | (uint64_t)size << 22);
    znn_store32(block_head, 1 | 2 << 1 | (uint32_t)(5 + size + 1) << 3);
    static const uint8_t head[] = {0x28, 0xB5, 0x2F, 0xFD, 0x80 /* a size of 4 bytes */, 0x38 /* window: 128 KiB */};
    memcpy(at, head, sizeof head);
    at += sizeof head;
    znn_store32(at, (uint32_t)dst_size);
    at += 4;
    memcpy(at, block_head, 3);
    at += 3;
    memcpy(at, literals, 5);
    at += 5;
    memcpy(at, block, size);
    at += size;
    *at++ = 0; /* no sequences */
    size_t n = ZSTD_decompress(dst, dst_size, frame, (size_t)(at - frame));
    free(frame);
    return n;
}

static bool decode(znn_huff0_decoder *decoder, uint8_t *dst, size_t dst_size, const uint8_t *src, size_t src_size)
{
    znn_huff0_block block = {dst, dst_size, src, src_size, false};
    return znn_huff0_decode(decoder, &block, 1);
}

/* The block's size. */
static size_t check_block(const uint8_t *src, size_t size)
{
    znn_huff0_encoder *encoder = malloc(sizeof *encoder);
    znn_huff0_decoder *decoder = malloc(sizeof *decoder);
    uint8_t *whole = malloc(2 * size);
    size_t coded = znn_huff0_encode(encoder, whole, 2 * size, src, size);
    if (coded > 1) {
        /* Of exactly the sizes, so that a sanitizer sees what goes beyond. */
        uint8_t *block = malloc(coded), *back = malloc(size), *by_zstd = malloc(size);
        memcpy(block, whole, coded);
        assert_true(decode(decoder, back, size, block, coded));
        assert_memory_equal(back, src, size);
        assert_int_equal(decode_by_zstd(by_zstd, size, block, coded), size);
        assert_memory_equal(by_zstd, src, size);
        free(block);
        free(back);
        free(by_zstd);
    }
    free(whole);
    free(encoder);
    free(decoder);
    return coded;
}

static void test_blocks_of_every_kind_come_back_and_libzstd_reads_them(void **state)
{
    (void)state;
    uint8_t *src = malloc(ZNN_HUFF0_MAX);
    static const size_t sizes[] = {12, 13, 14, 15, 100, 1000, 4095, 4096, 20001, 65536, ZNN_HUFF0_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        fill_skewed(src, n, 0, 2); /* a code of one bit */
        check_block(src, n);
        fill_skewed(src, n, 100, 20); /* codes deeper than 11 bits, cut */
        assert_true(check_block(src, n) > 0);
        fill_skewed(src, n, 200, 20); /* more weights than are written plainly */
        check_block(src, n);
        fill_uniform(src, n, 0, 256);
        check_block(src, n);
        fill_uniform(src, n, 120, 3);
        assert_true(check_block(src, n) > 0);
        fill_uniform(src, n, 120, 100);
        check_block(src, n);
        fill_numbers(src, n, 1);
        check_block(src, n);
    }
    free(src);
}

/* Blocks of weights' planes and stranger ones, by each instruction set and then read by each. */
static void test_blocks_are_written_and_read_alike_by_every_instruction_set(void **state)
{
    (void)state;
    static const size_t sizes[] = {13, 1000, 16384, 32767, 65536, ZNN_HUFF0_MAX - 3, ZNN_HUFF0_MAX};
    static const znn_isa_level levels[] = {ZNN_ISA_SCALAR, ZNN_ISA_AVX2, ZNN_ISA_AVX512};
    znn_isa_level here = znn_cpu_isa();
    znn_huff0_encoder *encoder = malloc(sizeof *encoder);
    znn_huff0_decoder *decoder = malloc(sizeof *decoder);
    uint8_t *src = malloc(ZNN_HUFF0_MAX), *first = malloc(ZNN_HUFF0_MAX), *block = malloc(ZNN_HUFF0_MAX);
    for (unsigned i = 0; i < 6 * sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i / 6], coded = 0;
        switch (i % 6) {
        case 0: fill_skewed(src, size, 0, 2); break;
        case 1: fill_skewed(src, size, 100, 30); break;
        case 2: fill_uniform(src, size, 0, 100); break;
        case 3: fill_mixed(src, size, 150); break;
        case 4: fill_mixed(src, size, 256); break;
        default: /* a part that needs far more bits than the rest */
            fill_skewed(src, size, 0, 3);
            fill_uniform(src + size / 3, size / 4, 0, 60);
        }
        for (unsigned l = 0; l < 3; l++) {
            if (!znn_cpu_isa_use(levels[l]))
                continue;
            size_t n = znn_huff0_encode(encoder, block, size, src, size);
            if (l == 0) {
                coded = n;
                memcpy(first, block, n);
            }
            assert_int_equal(n, coded);
            assert_memory_equal(block, first, n);
        }
        assert_true(coded > 1 || size == 13);
        for (unsigned l = 0; l < 3 && coded; l++) {
            uint8_t *exact = malloc(coded), *back = malloc(size);
            memcpy(exact, first, coded);
            if (znn_cpu_isa_use(levels[l])) {
                assert_true(decode(decoder, back, size, exact, coded));
                assert_memory_equal(back, src, size);
            }
            free(exact);
            free(back);
        }
    }
    znn_cpu_isa_use(here);
    free(src);
    free(first);
    free(block);
    free(encoder);
    free(decoder);
}

static void test_a_repeated_byte_is_a_block_of_one(void **state)
{
    (void)state;
    uint8_t src[5000], back[5000], block;
    znn_huff0_encoder encoder;
    znn_huff0_decoder decoder;
    memset(src, 77, sizeof src);
    assert_int_equal(znn_huff0_encode(&encoder, &block, 1, src, sizeof src), 1);
    assert_int_equal(block, 77);
    assert_true(decode(&decoder, back, sizeof back, &block, 1));
    assert_memory_equal(src, back, sizeof src);
}

/* The cost of the best code of at most 11 bits is that of no other complete code tried here. */
static void test_lengths_are_complete_and_within_the_limit(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        uint32_t count[256] = {0};
        unsigned symbols = 2 + random_number() % 255;
        for (unsigned s = 0; s < symbols; s++)
            count[s] = 1 + (random_number() >> random_number() % 31);
        uint8_t lengths[256];
        static const size_t sizes[] = {1000, 4096, ZNN_HUFF0_MAX};
        znn_huff0_lengths(lengths, count, sizes[round % 3]);
        uint32_t sum = 0;
        for (unsigned s = 0; s < symbols; s++) {
            assert_in_range(lengths[s], 1, ZNN_HUFF0_BITS_MAX);
            sum += 1u << (ZNN_HUFF0_BITS_MAX - lengths[s]);
        }
        assert_int_equal(sum, 1u << ZNN_HUFF0_BITS_MAX);
        for (unsigned a = 0; a < symbols; a++) /* a commoner symbol has no longer code */
            for (unsigned b = 0; b < symbols; b++)
                assert_true(count[a] <= count[b] || lengths[a] <= lengths[b]);
    }
}

/* Half zeros, the rest anything: long codes, of which a small block has few of each, cost more than they save. */
static void test_small_blocks_of_many_symbols_are_about_as_small_as_libzstds(void **state)
{
    (void)state;
    static const size_t sizes[] = {500, 1000, 1940, 2048, 2049, 4096, 4097, 8000};
    uint8_t src[8000], block[8000], frame[ZSTD_COMPRESSBOUND(sizeof src)];
    znn_huff0_encoder *encoder = malloc(sizeof *encoder);
    for (unsigned i = 0; i < 8 * sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i / 8];
        fill_uniform(src, size, 0, 256);
        for (size_t k = 0; k < size; k++)
            src[k] = random_number() % 2 ? src[k] : 0;
        size_t coded = znn_huff0_encode(encoder, block, sizeof block, src, size);
        size_t theirs = ZSTD_compress(frame, sizeof frame, src, size, 1); /* the same block, and what tells of it */
        assert_true(coded > 0 && !ZSTD_isError(theirs));
        assert_true(coded <= theirs + size / 200);
    }
    free(encoder);
}

static void test_damaged_blocks_never_write_outside(void **state)
{
    (void)state;
    static const size_t sizes[] = {12, 500, 5000};
    znn_huff0_encoder *encoder = malloc(sizeof *encoder);
    znn_huff0_decoder *decoder = malloc(sizeof *decoder);
    for (unsigned i = 0; i < 3000; i++) {
        size_t size = sizes[i % 3];
        uint8_t *src = malloc(size), *back = malloc(size);
        fill_skewed(src, size, i % 200, 2 + i % 15);
        uint8_t *whole = malloc(2 * size);
        size_t coded = znn_huff0_encode(encoder, whole, 2 * size, src, size);
        if (coded > 1) {
            size_t left = random_number() % 4 ? coded : random_number() % coded;
            uint8_t *block = malloc(left ? left : 1);
            memcpy(block, whole, left);
            for (unsigned k = random_number() % 4; k < 4 && left; k++)
                block[random_number() % left] ^= (uint8_t)(1u << random_number() % 8);
            decode(decoder, back, size, block, left); /* under a sanitizer: nothing outside */
            free(block);
        }
        free(whole);
        free(src);
        free(back);
    }
    free(encoder);
    free(decoder);
}

/* Large blocks, damaged or not, one or two at once: whatever is made of them, each instruction set makes the same. */
static void test_damaged_blocks_are_judged_alike_by_every_instruction_set(void **state)
{
    (void)state;
    static const znn_isa_level levels[] = {ZNN_ISA_SCALAR, ZNN_ISA_AVX2, ZNN_ISA_AVX512};
    znn_isa_level here = znn_cpu_isa();
    znn_huff0_encoder *encoder = malloc(sizeof *encoder);
    znn_huff0_decoder *decoder = malloc(sizeof *decoder);
    unsigned accepted = 0, refused = 0;
    for (unsigned i = 0; i < 300; i++) {
        uint8_t *block[2], *back[2][3];
        znn_huff0_block blocks[2];
        for (unsigned k = 0; k < 2; k++) {
            size_t size = 16384 + random_number() % 20000;
            uint8_t *src = malloc(size), *whole = malloc(2 * size);
            switch (random_number() % 4) {
            case 0: fill_mixed(src, size, 200); break;
            case 1: fill_skewed(src, size, i % 200, 2 + i % 15); break;
            case 2: fill_uniform(src, size, 0, 3 + i % 100); break;
            default: /* places where lanes end up far from each other */
                fill_skewed(src, size, 0, 3);
                fill_uniform(src + random_number() % 8000, 8000, 0, 90);
            }
            size_t coded = znn_huff0_encode(encoder, whole, 2 * size, src, size);
            assert_true(coded > 1);
            block[k] = malloc(coded);
            memcpy(block[k], whole, coded);
            for (unsigned flips = random_number() % 4; flips > 1; flips--) {
                size_t at = random_number() % (random_number() % 4 ? coded : 100);
                block[k][at] ^= (uint8_t)(1u << random_number() % 8);
            }
            size_t claimed = random_number() % 8 ? size : size - 4 + random_number() % 8;
            blocks[k] = (znn_huff0_block){NULL, claimed, block[k], coded, k == 1};
            for (unsigned l = 0; l < 3; l++)
                back[k][l] = malloc(claimed);
            free(src);
            free(whole);
        }
        bool first = false;
        for (unsigned l = 0; l < 3; l++) {
            if (!znn_cpu_isa_use(levels[l]))
                continue;
            for (unsigned k = 0; k < 2; k++)
                blocks[k].dst = back[k][l];
            bool ok = znn_huff0_decode(decoder, blocks, 1 + i % 2);
            first = l ? first : ok;
            assert_int_equal(ok, first);
            for (unsigned k = 0; ok && k < 1 + i % 2; k++)
                assert_memory_equal(back[k][l], back[k][0], blocks[k].dst_size);
        }
        accepted += first;
        refused += !first;
        for (unsigned k = 0; k < 2; k++) {
            free(block[k]);
            for (unsigned l = 0; l < 3; l++)
                free(back[k][l]);
        }
    }
    assert_true(accepted > 50 && refused > 50); /* or the test is none */
    znn_cpu_isa_use(here);
    free(encoder);
    free(decoder);
}

/* Memory whose last byte is followed by a page that ends the process. */
typedef struct {
    uint8_t *pages;
    size_t size; /* without the last */
} guarded;

static guarded guarded_make(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guarded g = {NULL, (ZNN_HUFF0_MAX / page + 2) * page};
    g.pages = mmap(NULL, g.size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.pages != MAP_FAILED);
    assert_int_equal(mprotect(g.pages + g.size, page, PROT_NONE), 0);
    return g;
}

/* Whole blocks, then the same with streams' sizes that lie and with streams as short as can be; both a guarded page
 * after the input and one after the output. */
static void test_blocks_are_read_to_their_last_byte_and_no_further(void **state)
{
    (void)state;
    znn_huff0_encoder *encoder = malloc(sizeof *encoder);
    znn_huff0_decoder *decoder = malloc(sizeof *decoder);
    uint8_t *src = malloc(ZNN_HUFF0_MAX), *whole = malloc(ZNN_HUFF0_MAX);
    guarded from = guarded_make(), to = guarded_make();
    static const size_t sizes[] = {12, 100, 16384, 16389, 60001, ZNN_HUFF0_MAX};
    for (unsigned i = 0; i < 6 * sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i / 6];
        switch (i % 3) {
        case 0: fill_skewed(src, size, 0, 2); break; /* a code of one bit */
        case 1: fill_skewed(src, size, 0, 20); break;
        default: fill_mixed(src, size, 200);
        }
        size_t coded = znn_huff0_encode(encoder, whole, size - 1, src, size);
        if (!coded)
            continue;
        uint8_t *block = from.pages + from.size - coded, *back = to.pages + to.size - size;
        memcpy(block, whole, coded);
        assert_true(decode(decoder, back, size, block, coded));
        assert_memory_equal(back, src, size);

        uint8_t weights[256];
        size_t head = znn_huff0_read_weights(weights, whole, coded), streams = coded - head - 6;
        for (unsigned lie = 0; lie < 40; lie++) {
            /* Streams of few bytes, of which lanes take none or hardly any, up to all there are. */
            static const size_t kept[] = {0, 1, 4, 28, 63, 256, 260, 300, 1000};
            size_t n = lie < 9 ? ZNN_MIN(kept[lie], streams) : streams, left = head + 6 + n;
            block = from.pages + from.size - left;
            memcpy(block, whole, left);
            for (unsigned k = 0; k < 3; k++) {
                size_t even = n / 4, most = lie % 4 == 3 ? 0xFFFF : n / 3;
                znn_store16(block + head + 2 * k, (uint16_t)(lie < 9 ? even : random_number() % (most + 1)));
            }
            if (n)
                block[left - 1] |= 1; /* an end mark */
            size_t begin = head + 6;
            for (unsigned k = 0; k < 3; k++) {
                begin += znn_load16(block + head + 2 * k);
                if (begin > head + 6 && begin <= left)
                    block[begin - 1] |= 1;
            }
            decode(decoder, back, size, block, left);
        }
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    munmap(from.pages, from.size + page);
    munmap(to.pages, to.size + page);
    free(src);
    free(whole);
    free(encoder);
    free(decoder);
}

static void test_a_block_of_another_size_is_refused(void **state)
{
    (void)state;
    uint8_t src[5000], block[5000], back[5001];
    znn_huff0_encoder encoder;
    znn_huff0_decoder decoder;
    fill_skewed(src, sizeof src, 0, 8);
    size_t coded = znn_huff0_encode(&encoder, block, sizeof block, src, sizeof src);
    assert_in_range(coded, 2, sizeof block);
    assert_true(decode(&decoder, back, sizeof src, block, coded));
    for (int more = -8; more <= 1; more++)
        if (more)
            assert_false(decode(&decoder, back, (size_t)((int)sizeof src + more), block, coded));
    for (size_t less = 1; less < 20; less++)
        assert_false(decode(&decoder, back, sizeof src, block, coded - less));
}

/* ---- Groups ---- */

static void test_groups_are_split_alike_by_every_instruction_set(void **state)
{
    (void)state;
    uint8_t src[4096], back[4096 + 64], memory[3][6][4096];
    fill_uniform(src, sizeof src, 0, 256);
    for (size_t n = 0; n < 1024; n += 7) {
        const znn_groups_loops *loops[3] = {&znn_groups_scalar, NULL, NULL};
#if ZNN_X86
        loops[1] = __builtin_cpu_supports("avx2") ? &znn_groups_avx2 : NULL;
        loops[2] = znn_cpu_isa() == ZNN_ISA_AVX512 ? &znn_groups_avx512 : NULL;
#endif
        for (int reorder = 0; reorder < 2; reorder++)
            for (unsigned i = 0; i < 3; i++) {
                if (!loops[i])
                    continue;
                uint8_t *group[4] = {memory[i][0], memory[i][1], memory[i][2], memory[i][3]};
                const uint8_t *from[4] = {group[0], group[1], group[2], group[3]};
                uint8_t *low = memory[i][4], *high = memory[i][5];
                loops[i]->split16(low, high, src, n, reorder);
                assert_memory_equal(low, memory[0][4], n);
                assert_memory_equal(high, memory[0][5], n);
                loops[i]->split32(group, src, n, reorder);
                for (unsigned b = 0; b < 4; b++)
                    assert_memory_equal(group[b], memory[0][b], n);
                for (unsigned place = 1; place < 20; place++) { /* on a boundary or not, past the caches or not */
                    uint8_t *to = back + 1 + place % 10 * 7;
                    memset(back, 0x55, sizeof back);
                    loops[i]->merge16(to, low, high, n, reorder, place < 10);
                    assert_memory_equal(to, src, 2 * n);
                    assert_true(to[-1] == 0x55 && to[2 * n] == 0x55);
                    memset(back, 0x55, sizeof back);
                    loops[i]->merge32(to, from, n, reorder, place < 10);
                    assert_memory_equal(to, src, 4 * n);
                    assert_true(to[-1] == 0x55 && to[4 * n] == 0x55);
                }
            }
    }
}

/* ---- Streams ---- */

typedef struct {
    uint8_t *data;
    uint64_t size;
} buffer;

static buffer compress(const uint8_t *src, uint64_t size, const znn_zipnn_options *options)
{
    uint64_t capacity = znn_zipnn_bound(size, options);
    assert_true(capacity > 0);
    buffer b = {malloc(capacity), 0};
    assert_int_equal(znn_zipnn_compress(b.data, capacity, &b.size, src, size, options), ZNN_OK);
    return b;
}

static void check_stream(buffer stream, const uint8_t *src, uint64_t size, const znn_options *options)
{
    uint8_t *back = malloc(size + 1), *exact = malloc(stream.size);
    uint64_t n = 0;
    memcpy(exact, stream.data, stream.size);
    assert_int_equal(znn_zipnn_content_size(exact, stream.size, &n), ZNN_OK);
    assert_int_equal(n, size);
    assert_int_equal(znn_zipnn_decompress(back, size, &n, exact, stream.size, options), ZNN_OK);
    assert_int_equal(n, size);
    assert_memory_equal(back, src, size);
    free(exact);
    free(back);
}

static void test_streams_of_every_dtype_and_size_come_back(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 2, 3, 5, 63, 4095, 4096, 4097, 16383, 16385, 300001};
    uint8_t *src = malloc(300001);
    for (int dtype = 0; dtype < ZNN_DTYPE_COUNT; dtype++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int streaming = 0; streaming < 2; streaming++) {
                znn_zipnn_options o;
                znn_zipnn_options_init(&o);
                o.dtype = (znn_dtype)dtype;
                o.chunk = i % 2 ? 4096 : 16384;
                o.streaming_chunk = streaming ? 8192 : 0;
                unsigned width = znn_dtype_size(o.dtype);
                fill_numbers(src, sizes[i], width ? width : 2);
                buffer stream = compress(src, sizes[i], &o);
                check_stream(stream, src, sizes[i], NULL);
                free(stream.data);
            }
    free(src);
}

/* What caches do not hold is written past them, from a boundary on. */
static void test_large_streams_come_back_wherever_they_go(void **state)
{
    (void)state;
    static const znn_dtype dtypes[] = {ZNN_F8_E4M3, ZNN_BF16, ZNN_F16, ZNN_F32};
    const uint64_t size = (8u << 20) + 300003;
    uint8_t *src = malloc(size), *back = malloc(size + 64);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        znn_zipnn_options o;
        znn_zipnn_options_init(&o);
        o.dtype = dtypes[i];
        unsigned width = znn_dtype_size(o.dtype);
        if (width == 1)
            fill_mixed(src, size, 160);
        else
            fill_numbers(src, size, width);
        buffer stream = compress(src, size, &o);
        for (unsigned place = 1; place < 8; place += 3) {
            uint64_t n = 0;
            memset(back, 0x55, size + 64);
            assert_int_equal(znn_zipnn_decompress(back + place, size, &n, stream.data, stream.size, NULL), ZNN_OK);
            assert_memory_equal(back + place, src, size);
            assert_true(n == size && back[place - 1] == 0x55 && back[place + size] == 0x55);
        }
        free(stream.data);
    }
    free(src);
    free(back);
}

static void test_a_delta_needs_its_base_and_no_other(void **state)
{
    (void)state;
    uint8_t base[9000], src[9000], back[9000];
    fill_numbers(base, sizeof base, 2);
    memcpy(src, base, sizeof src);
    src[17] ^= 1;
    znn_zipnn_options o;
    znn_zipnn_options_init(&o);
    o.base = base;
    o.base_size = sizeof base;
    buffer stream = compress(src, sizeof src, &o);
    znn_options with_base;
    znn_options_init(&with_base);
    with_base.base = base;
    with_base.base_size = sizeof base;
    check_stream(stream, src, sizeof src, &with_base);
    uint64_t n;
    assert_int_equal(znn_zipnn_decompress(back, sizeof back, &n, stream.data, stream.size, NULL), ZNN_ERROR_BASE);
    with_base.base_size--;
    assert_int_equal(znn_zipnn_decompress(back, sizeof back, &n, stream.data, stream.size, &with_base), ZNN_ERROR_BASE);
    free(stream.data);
}

static void test_shapes_are_kept(void **state)
{
    (void)state;
    static const uint64_t shape[] = {3, 300, 70000, (uint64_t)1 << 40};
    uint8_t src[64] = {0};
    znn_zipnn_options o;
    znn_zipnn_options_init(&o);
    o.input = ZNN_ZIPNN_TORCH;
    o.shape = shape;
    o.dimensions = 4;
    o.dtype = ZNN_F32;
    buffer stream = compress(src, sizeof src, &o);
    znn_zipnn_reader *reader;
    znn_zipnn_part part;
    znn_zipnn_info info;
    assert_int_equal(znn_zipnn_reader_open(&reader, stream.data, stream.size, NULL), ZNN_OK);
    assert_int_equal(znn_zipnn_reader_info(reader, &info), ZNN_OK);
    assert_int_equal(info.input, ZNN_ZIPNN_TORCH);
    assert_int_equal(znn_zipnn_reader_part(reader, 0, &part), ZNN_OK);
    assert_int_equal(part.dtype, ZNN_F32);
    assert_int_equal(part.dimensions, 4);
    assert_memory_equal(part.shape, shape, sizeof shape);
    znn_zipnn_reader_free(reader);
    free(stream.data);
}

/* ---- Hostile streams ---- */

typedef struct {
    size_t most; /* in use at once */
    size_t used;
} meter;

static void *metered_alloc(void *opaque, size_t size)
{
    meter *m = opaque;
    size_t *memory = malloc(size + 16);
    *memory = size;
    m->used += size;
    m->most = m->used > m->most ? m->used : m->most;
    return memory + 2;
}

static void metered_free(void *opaque, void *address)
{
    meter *m = opaque;
    size_t *memory = (size_t *)address - 2;
    m->used -= *memory;
    free(memory);
}

static int read_buffer(void *opaque, uint64_t offset, void *dst, size_t size)
{
    const buffer *b = opaque;
    if (offset > b->size || size > b->size - offset)
        return 1;
    memcpy(dst, b->data + offset, size);
    return 0;
}

static buffer small_stream(void)
{
    static uint8_t src[6000];
    fill_numbers(src, sizeof src, 2);
    znn_zipnn_options o;
    znn_zipnn_options_init(&o);
    o.dtype = ZNN_BF16;
    o.chunk = 4096;
    return compress(src, sizeof src, &o);
}

static znn_status content_size_with(const buffer *stream, unsigned at, uint64_t value, unsigned width)
{
    uint8_t *copy = malloc(stream->size);
    memcpy(copy, stream->data, stream->size);
    for (unsigned i = 0; i < width; i++)
        copy[at + i] = (uint8_t)(value >> (8 * i));
    uint64_t n;
    znn_status status = znn_zipnn_content_size(copy, stream->size, &n);
    free(copy);
    return status;
}

static void test_headers_are_bounded_by_the_streams_length(void **state)
{
    (void)state;
    buffer s = small_stream();
    assert_int_equal(content_size_with(&s, 24, s.size, 8), ZNN_OK);
    assert_int_equal(content_size_with(&s, 24, s.size + 1, 8), ZNN_ERROR_TRUNCATED);
    assert_int_equal(content_size_with(&s, 24, UINT64_MAX, 8), ZNN_ERROR_TRUNCATED);
    assert_int_equal(content_size_with(&s, 24, 31, 8), ZNN_ERROR_FORMAT);
    assert_int_equal(content_size_with(&s, 24, 0, 8), ZNN_ERROR_FORMAT);
    /* Contents whose tables could not be there. */
    assert_int_equal(content_size_with(&s, 16, (uint64_t)1 << 40, 8), ZNN_ERROR_FORMAT);
    assert_int_equal(content_size_with(&s, 16, UINT64_MAX, 8), ZNN_ERROR_FORMAT);
    for (unsigned chunk = 63; chunk < 256; chunk += 32)
        assert_int_equal(content_size_with(&s, 14, chunk, 1), ZNN_ERROR_FORMAT);
    assert_int_equal(content_size_with(&s, 14, 1, 1), ZNN_ERROR_FORMAT);
    assert_int_equal(content_size_with(&s, 13, 127, 1), ZNN_ERROR_FORMAT);
    assert_int_equal(content_size_with(&s, 13, 255, 1), ZNN_ERROR_FORMAT);
    assert_int_equal(content_size_with(&s, 3, 6, 1), ZNN_ERROR_UNSUPPORTED);
    assert_int_equal(content_size_with(&s, 15, 15, 1), ZNN_ERROR_UNSUPPORTED);
    assert_int_equal(content_size_with(&s, 15, 99, 1), ZNN_ERROR_FORMAT);
    free(s.data);
}

/* What zipnn writes with snappy, and cannot read: a header twice, and then snappy's bytes. */
static void test_snappy_is_named_as_not_supported(void **state)
{
    (void)state;
    uint8_t data[32 + 32 + 100] = {'Z', 'N', 0, 5, 4, 10, 1, 4, 1};
    data[14] = 18;
    data[15] = 6;
    znn_store64(data + 24, sizeof data);
    memcpy(data + 32, data, 32);
    uint64_t n;
    assert_int_equal(znn_zipnn_content_size(data, sizeof data, &n), ZNN_ERROR_UNSUPPORTED);
}

static void test_every_cut_is_an_error(void **state)
{
    (void)state;
    buffer s = small_stream();
    uint8_t back[6000];
    for (uint64_t size = 0; size < s.size; size++) {
        uint8_t *cut = malloc(size + 1);
        uint64_t n;
        memcpy(cut, s.data, size);
        assert_int_not_equal(znn_zipnn_decompress(back, sizeof back, &n, cut, size, NULL), ZNN_OK);
        free(cut);
    }
    free(s.data);
}

/* What both readers say to a stream, without getting memory for what its header tells. */
static void check_opening(const uint8_t *data, uint64_t size, znn_status expected)
{
    meter m = {0, 0};
    znn_options options;
    znn_options_init(&options);
    options.alloc = metered_alloc;
    options.free = metered_free;
    options.opaque = &m;
    buffer file = {(uint8_t *)(uintptr_t)data, size};
    for (int by_function = 0; by_function < 2; by_function++) {
        znn_zipnn_reader *reader;
        assert_int_equal(by_function ? znn_zipnn_reader_open_fn(&reader, read_buffer, &file, size, &options)
                                     : znn_zipnn_reader_open(&reader, data, size, &options),
                         expected);
        znn_zipnn_reader_free(reader);
    }
    assert_in_range(m.most, 1, 1 << 20);
    assert_int_equal(m.used, 0);
}

/* Two groups of one chunk, each of them a block of one byte. */
static void test_a_chunk_larger_than_its_pieces_can_be_is_refused(void **state)
{
    (void)state;
    uint8_t data[32 + 18 + 2] = {'Z', 'N', 0, 5, 4, 10, 1, 0, 1};
    data[14] = 62;
    data[15] = 6;
    znn_store64(data + 24, sizeof data);
    data[32] = data[33] = 1;
    znn_store64(data + 34, 1);
    znn_store64(data + 42, 1);
    znn_store64(data + 16, 2 * ZNN_HUFF0_MAX);
    check_opening(data, sizeof data, ZNN_OK);
    static const uint64_t sizes[] = {4 * ZNN_HUFF0_MAX, (uint64_t)1 << 33, (uint64_t)1 << 62};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        znn_store64(data + 16, sizes[i]);
        check_opening(data, sizeof data, ZNN_ERROR_FORMAT);
    }
}

static void test_a_whole_frame_that_claims_too_much_is_refused(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1 << 20, (uint64_t)1 << 33, (uint64_t)1 << 62};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t data[32 + 18] = {'Z', 'N', 0, 5, 4, 9, 1, 0, 1};
        data[14] = 18;
        data[15] = 6;
        znn_store64(data + 24, sizeof data);
        data[7] = 2; /* zstd: its size in 8 bytes */
        memcpy(data + 32, "\x28\xB5\x2F\xFD\xE0", 5);
        znn_store64(data + 37, sizes[i]);
        check_opening(data, sizeof data, ZNN_ERROR_FORMAT);
        data[7] = 3; /* LZ4, which may not be there */
        memcpy(data + 32, "\x04\x22\x4D\x18\x68\x40", 6);
        znn_store64(data + 38, 255);
        uint64_t n;
        bool is_there = znn_zipnn_content_size(data, sizeof data, &n) == ZNN_OK;
        znn_store64(data + 38, sizes[i]);
        check_opening(data, sizeof data, is_there ? ZNN_ERROR_FORMAT : ZNN_ERROR_UNSUPPORTED);
    }
}

static void test_memory_has_a_limit(void **state)
{
    (void)state;
    buffer s = small_stream();
    uint8_t start[100];
    znn_options options;
    znn_options_init(&options);
    options.memory_limit = 4095; /* a byte less than a chunk */
    znn_zipnn_reader *reader;
    assert_int_equal(znn_zipnn_reader_open(&reader, s.data, s.size, &options), ZNN_OK);
    assert_int_equal(znn_zipnn_reader_read(reader, start, 0, sizeof start), ZNN_ERROR_LIMIT);
    znn_zipnn_reader_free(reader);
    free(s.data);
}

static void test_damaged_streams_never_crash_and_both_readers_agree(void **state)
{
    (void)state;
    buffer s = small_stream();
    for (unsigned i = 0; i < 4000; i++) {
        uint8_t *copy = malloc(s.size), back[6000], again[6000];
        memcpy(copy, s.data, s.size);
        for (unsigned k = random_number() % 3; k < 3; k++) {
            uint64_t at = random_number() % (random_number() % 2 ? 100 : s.size);
            copy[at] = random_number() % 2 ? (uint8_t)random_number() : copy[at] ^ (uint8_t)(1u << random_number() % 8);
        }
        buffer file = {copy, s.size};
        znn_zipnn_reader *a, *b;
        znn_status status = znn_zipnn_reader_open(&a, copy, s.size, NULL);
        assert_int_equal(znn_zipnn_reader_open_fn(&b, read_buffer, &file, s.size, NULL), status);
        uint64_t n = status == ZNN_OK ? znn_zipnn_reader_size(a) : 0;
        if (n && n <= sizeof back) {
            status = znn_zipnn_reader_read(a, back, 0, n);
            assert_int_equal(znn_zipnn_reader_read(b, again, 0, n), status);
            if (status == ZNN_OK)
                assert_memory_equal(back, again, n);
        }
        znn_zipnn_reader_free(a);
        znn_zipnn_reader_free(b);
        free(copy);
    }
    free(s.data);
}

static void test_a_range_is_that_part_of_the_whole(void **state)
{
    (void)state;
    uint8_t src[20000], part[20000];
    fill_numbers(src, sizeof src, 4);
    znn_zipnn_options o;
    znn_zipnn_options_init(&o);
    o.dtype = ZNN_F32;
    o.chunk = 4096;
    o.streaming_chunk = 8192;
    buffer s = compress(src, sizeof src, &o);
    znn_zipnn_reader *reader;
    assert_int_equal(znn_zipnn_reader_open(&reader, s.data, s.size, NULL), ZNN_OK);
    for (unsigned i = 0; i < 300; i++) {
        uint64_t offset = random_number() % (sizeof src + 1), size = random_number() % (sizeof src - offset + 1);
        assert_int_equal(znn_zipnn_reader_read(reader, part, offset, size), ZNN_OK);
        assert_memory_equal(part, src + offset, size);
    }
    assert_int_equal(znn_zipnn_reader_read(reader, part, 1, sizeof src), ZNN_ERROR_ARGUMENT);
    znn_zipnn_reader_free(reader);
    free(s.data);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_blocks_of_every_kind_come_back_and_libzstd_reads_them, reset_random),
        cmocka_unit_test_setup(test_blocks_are_written_and_read_alike_by_every_instruction_set, reset_random),
        cmocka_unit_test_setup(test_a_repeated_byte_is_a_block_of_one, reset_random),
        cmocka_unit_test_setup(test_lengths_are_complete_and_within_the_limit, reset_random),
        cmocka_unit_test_setup(test_small_blocks_of_many_symbols_are_about_as_small_as_libzstds, reset_random),
        cmocka_unit_test_setup(test_damaged_blocks_never_write_outside, reset_random),
        cmocka_unit_test_setup(test_blocks_are_read_to_their_last_byte_and_no_further, reset_random),
        cmocka_unit_test_setup(test_damaged_blocks_are_judged_alike_by_every_instruction_set, reset_random),
        cmocka_unit_test_setup(test_a_block_of_another_size_is_refused, reset_random),
        cmocka_unit_test_setup(test_groups_are_split_alike_by_every_instruction_set, reset_random),
        cmocka_unit_test_setup(test_streams_of_every_dtype_and_size_come_back, reset_random),
        cmocka_unit_test_setup(test_large_streams_come_back_wherever_they_go, reset_random),
        cmocka_unit_test_setup(test_a_delta_needs_its_base_and_no_other, reset_random),
        cmocka_unit_test_setup(test_shapes_are_kept, reset_random),
        cmocka_unit_test_setup(test_headers_are_bounded_by_the_streams_length, reset_random),
        cmocka_unit_test_setup(test_snappy_is_named_as_not_supported, reset_random),
        cmocka_unit_test_setup(test_every_cut_is_an_error, reset_random),
        cmocka_unit_test_setup(test_a_chunk_larger_than_its_pieces_can_be_is_refused, reset_random),
        cmocka_unit_test_setup(test_a_whole_frame_that_claims_too_much_is_refused, reset_random),
        cmocka_unit_test_setup(test_memory_has_a_limit, reset_random),
        cmocka_unit_test_setup(test_damaged_streams_never_crash_and_both_readers_agree, reset_random),
        cmocka_unit_test_setup(test_a_range_is_that_part_of_the_whole, reset_random),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    /* Once more without vectors: the library asks for its instruction set once in a process. */
    if (!failed && argc > 0 && !getenv("ZNN_ISA")) {
        setenv("ZNN_ISA", "scalar", 1);
        execv("/proc/self/exe", argv);
    }
    return failed;
}
