/*
 * Every instruction set's path against the scalar one: the same bytes, the same
 * answers to damage. What this machine does not have is left out.
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

#include "base/cpu.h"
#include "chunk/chunk.h"
#include "chunk/paths.h"
#include "weights.h"

/* The paths that are not scalar and are here. */
static size_t other_paths(znn_isa_level list[ZNN_ISA_AVX512])
{
    size_t n = 0;
    for (int isa = ZNN_ISA_SCALAR + 1; isa <= ZNN_ISA_AVX512; isa++)
        if (znn_cpu_isa_use((znn_isa_level)isa))
            list[n++] = (znn_isa_level)isa;
    return n;
}

static const znn_paths *paths_of(znn_isa_level isa)
{
    assert_true(znn_cpu_isa_use(isa));
    return znn_paths_chosen();
}

#define FOR_OTHER_PATHS(isa)                                                                                           \
    znn_isa_level others_[ZNN_ISA_AVX512], isa;                                                                        \
    const size_t others_count_ = other_paths(others_);                                                                 \
    for (size_t other_ = 0; other_ < others_count_ && (isa = others_[other_], true); other_++)

/* ---- the narrow coder, with tables of every shape ---- */

/* A valid table of `codes` codes; the escape is one of them if there is a tail. */
static void random_table(znn_narrow_table *t, unsigned codes, unsigned tail, bool spread, bool level)
{
    uint8_t bytes[ZNN_NARROW_TABLE_MAX] = {0}, freq[ZNN_NARROW_INDICES + 1];
    /* random frequencies that sum to 256, or nearly equal ones */
    unsigned sum = 0;
    for (unsigned i = 0; i < codes; i++)
        sum += freq[i] = (uint8_t)(level ? 256 / codes : 1);
    for (; sum < 256; sum++) {
        const unsigned i = level ? random_below(codes) : random_below(random_below(codes) + 1);
        if (freq[i] == 255)
            sum--;
        else
            freq[i]++;
    }
    const unsigned coded = codes - (tail != 0);
    uint64_t known = 0;
    for (unsigned i = 0; i < coded + tail;) {
        const unsigned s = random_below(ZNN_NARROW_INDICES);
        i += !(known >> s & 1);
        known |= UINT64_C(1) << s;
    }
    const unsigned base = random_below(192);
    znn_store16(bytes, (uint16_t)(base | (unsigned)spread << 15));
    bytes[3] = tail ? freq[coded] : 0;
    znn_store64(bytes + 4, known);
    unsigned next = 0, tails_left = tail;
    for (unsigned i = 0; i < coded + tail; i++) {
        const bool is_tail = random_below(coded + tail - i) < tails_left;
        bytes[12 + i] = is_tail ? 0 : freq[next];
        next += !is_tail;
        tails_left -= is_tail;
    }
    assert_int_equal(znn_narrow_table_read(t, 8, bytes, sizeof bytes), 12 + coded + tail);
}

/* What the i-th index is coded as; false if the table does not know it. */
static bool code_of(const znn_narrow_table *t, unsigned index, uint8_t *code)
{
    *code = (uint8_t)index;
    for (unsigned i = 0; i < t->tail_count; i++)
        if (t->tail[i] == index)
            *code = ZNN_NARROW_ESCAPE | t->tail[0];
    return t->known >> index & 1;
}

typedef struct {
    znn_narrow_decoder d;
    uint8_t *out;
    size_t escapes; /* taken */
} decoded;

static decoded decode_with(znn_isa_level isa, const znn_narrow_table *t, unsigned lanes, const uint8_t *stream,
                           size_t size, const uint8_t *escaped, size_t rows)
{
    decoded r = {.out = room(rows * lanes)};
    assert_true(znn_narrow_decoder_begin(&r.d, t, lanes, stream, size, escaped));
    paths_of(isa)->narrow_decode(&r.d, r.out, rows);
    r.escapes = (size_t)(r.d.escaped - escaped);
    return r;
}

static void assert_decoded_alike(const decoded *a, const decoded *b, unsigned lanes, size_t rows)
{
    assert_int_equal(a->d.failed, b->d.failed);
    if (a->d.failed)
        return;
    assert_int_equal(a->escapes, b->escapes);
    assert_int_equal(a->d.end - a->d.next, b->d.end - b->d.next);
    assert_memory_equal(a->d.low, b->d.low, lanes);
    assert_memory_equal(a->d.high, b->d.high, lanes);
    for (size_t i = 0; i < rows * lanes; i++)
        assert_int_equal(a->out[i] % ZNN_NARROW_INDICES, b->out[i] % ZNN_NARROW_INDICES);
}

typedef struct {
    unsigned codes, tail;
    bool spread, level;
} shape;

static const shape shapes[] = {
    {2, 0, false, false},  {2, 2, false, false},   {3, 1, true, false},  {10, 0, false, true},  {16, 16, false, false},
    {18, 16, false, true}, {32, 0, false, false},  {32, 32, true, true}, {33, 0, false, false}, {33, 30, false, true},
    {40, 20, true, false}, {63, 2, false, true},   {64, 0, false, true}, {64, 0, true, true},   {64, 1, false, false},
    {20, 45, true, false}, {17, 16, false, false},
};
#define SHAPES (sizeof shapes / sizeof *shapes)

static void narrow_streams_are_the_same_both_ways(void **state)
{
    (void)state;
    random_state = 1;
    FOR_OTHER_PATHS(isa)
    {
        for (unsigned test = 0; test < 6 * SHAPES; test++) {
            const shape *sh = &shapes[test % SHAPES];
            const unsigned lanes = 64u << test % 3;
            const size_t rows = 1 + random_below(40), n = rows * lanes;
            znn_narrow_table t;
            random_table(&t, sh->codes, sh->tail, sh->spread, sh->level);
            uint8_t *codes = room(n), *indices = room(n), *escaped = room(n + 64), *a = room(n + 2 * lanes + 64),
                    *b = room(n + 2 * lanes + 64);
            size_t escapes = 0;
            const bool often = random_below(2); /* one index most of the time, whatever its frequency */
            const unsigned usual = random_below(ZNN_NARROW_INDICES);
            for (size_t i = 0; i < n;) {
                indices[i] = (uint8_t)(often && random_below(8) ? usual : random_below(ZNN_NARROW_INDICES));
                if (!code_of(&t, indices[i], &codes[i])) {
                    indices[i] = (uint8_t)__builtin_ctzll(t.known);
                    code_of(&t, indices[i], &codes[i]);
                }
                escaped[escapes] = indices[i];
                escapes += codes[i++] >> 7;
            }
            uint16_t initial[ZNN_NARROW_LANES_MAX];
            for (unsigned l = 0; l < lanes; l++)
                initial[l] = (uint16_t)(0x8000 | random_number());
            uint8_t *const a_end = a + n + 2 * lanes + 64, *const b_end = b + n + 2 * lanes + 64;
            const size_t size = paths_of(ZNN_ISA_SCALAR)->narrow_encode(&t, lanes, codes, rows, initial, a_end);
            assert_int_equal(paths_of(isa)->narrow_encode(&t, lanes, codes, rows, initial, b_end), size);
            assert_memory_equal(a_end - size, b_end - size, size);

            uint8_t *stream = room(size);
            memcpy(stream, a_end - size, size);
            decoded scalar = decode_with(ZNN_ISA_SCALAR, &t, lanes, stream, size, escaped, rows);
            decoded other = decode_with(isa, &t, lanes, stream, size, escaped, rows);
            assert_false(scalar.d.failed);
            assert_int_equal(scalar.escapes, escapes);
            assert_memory_equal(scalar.out, indices, n);
            assert_decoded_alike(&scalar, &other, lanes, rows);
            free(scalar.out), free(other.out), free(stream);
            free(codes), free(indices), free(escaped), free(a), free(b);
        }
    }
}

static void narrow_decoders_agree_on_noise(void **state)
{
    (void)state;
    random_state = 2;
    FOR_OTHER_PATHS(isa)
    {
        for (unsigned test = 0; test < 20 * SHAPES; test++) {
            const shape *sh = &shapes[test % SHAPES];
            const unsigned lanes = 64u << random_below(3);
            const size_t rows = 1 + random_below(20), size = 2 * lanes + random_below((uint32_t)(rows * lanes));
            znn_narrow_table t;
            random_table(&t, sh->codes, sh->tail, sh->spread, sh->level);
            uint8_t *stream = room(size), *escaped = room(rows * lanes + 64);
            fill_random(stream, size);
            for (size_t i = 0; i < rows * lanes; i++)
                escaped[i] = (uint8_t)random_below(ZNN_NARROW_INDICES);
            /* states a decoder would not come to, too: high bytes of 0 and 255, bytes of 0 only */
            if (test % 4 == 0)
                memset(stream, test % 8 ? 255 : 0, 2 * lanes);
            if (test % 5 == 0)
                memset(stream + 2 * lanes, 0, size - 2 * lanes);
            decoded scalar = decode_with(ZNN_ISA_SCALAR, &t, lanes, stream, size, escaped, rows);
            decoded other = decode_with(isa, &t, lanes, stream, size, escaped, rows);
            assert_decoded_alike(&scalar, &other, lanes, rows);
            free(scalar.out), free(other.out), free(stream), free(escaped);
        }
    }
}

/* A stream may take more escapes than there are; what it then finds is refused, but only at its end. */
static void an_escape_may_be_any_byte(void **state)
{
    (void)state;
    random_state = 7;
    for (int isa = ZNN_ISA_SCALAR; isa <= ZNN_ISA_AVX512; isa++) {
        if (!znn_cpu_isa_use((znn_isa_level)isa))
            continue;
        for (unsigned test = 0; test < 4 * SHAPES; test++) {
            const shape *sh = &shapes[test % SHAPES];
            const unsigned lanes = 64u << test % 3;
            const size_t rows = 8, size = 2 * lanes + rows * lanes;
            znn_narrow_table t;
            random_table(&t, sh->codes, sh->tail, sh->spread, sh->level);
            uint8_t *stream = room(size), *low = room(rows * lanes + 64), *any = room(rows * lanes + 64);
            fill_random(stream, size);
            fill_random(any, rows * lanes + 64);
            for (size_t i = 0; i < rows * lanes + 64; i++)
                low[i] = any[i] % ZNN_NARROW_INDICES;
            decoded a = decode_with((znn_isa_level)isa, &t, lanes, stream, size, low, rows);
            decoded b = decode_with((znn_isa_level)isa, &t, lanes, stream, size, any, rows);
            assert_false(a.d.failed);
            assert_decoded_alike(&a, &b, lanes, rows);
            free(a.out), free(b.out), free(stream), free(low), free(any);
        }
    }
}

static void escapes_are_read_the_same(void **state)
{
    (void)state;
    random_state = 3;
    FOR_OTHER_PATHS(isa)
    {
        for (unsigned test = 0; test < 300; test++) {
            znn_narrow_table t;
            const unsigned tail = 1 + random_below(60);
            random_table(&t, 1 + random_below(64 - tail) + 1, tail, false, true);
            const size_t count = random_below(200), size = znn_narrow_escapes_size(&t, count);
            /* a reader may look 64 bytes beyond the list: the stream is there */
            uint8_t *indices = room(count), *packed = room(size + 64), *a = room(count + 64), *b = room(count + 64);
            fill_random(packed, size + 64);
            for (size_t i = 0; i < count; i++)
                indices[i] = t.tail[random_below(t.tail_count)];
            znn_narrow_escapes_write(packed, &t, indices, count);
            if (size && test % 3 == 0)
                packed[random_below((uint32_t)size)] ^= (uint8_t)(1u << random_below(8));
            if (size && test % 7 == 0)
                packed[size - 1] ^= 0x80;
            const bool good = paths_of(ZNN_ISA_SCALAR)->escapes_read(a, &t, count, packed);
            assert_int_equal(paths_of(isa)->escapes_read(b, &t, count, packed), good);
            if (good)
                assert_memory_equal(a, b, count);
            free(indices), free(packed), free(a), free(b);
        }
    }
}

/* ---- cutting and joining ---- */

#define GROUPS_MAX 9

/* counts.h, from its definition. */
static size_t count_plainly(uint32_t *counts, unsigned bits, const uint8_t *src, size_t elements, unsigned size,
                            unsigned every)
{
    size_t counted = 0;
    memset(counts, 0, sizeof *counts << bits);
    for (size_t i = 0; i < elements; i++) {
        const size_t run = i / ZNN_COUNT_RUN, step = run / every;
        const bool whole = (step + 1) * every * ZNN_COUNT_RUN <= elements;
        if (whole && run % every != (((uint32_t)step * 0x9e3779b1u >> 16) & (every - 1)))
            continue;
        uint64_t v = 0;
        for (unsigned b = 0; b < size; b++)
            v |= (uint64_t)src[i * size + b] << 8 * b;
        counts[v >> (8 * size - 1 - bits) & ((1u << bits) - 1)]++;
        counted++;
    }
    return counted;
}

static void check_counts(const znn_paths *paths, unsigned bits, size_t elements, unsigned size, unsigned every)
{
    uint8_t *src = room(elements * size);
    fill_random(src, elements * size);
    uint32_t *expected = room(sizeof *expected << bits), *counts = room(sizeof *counts * znn_counts_room(bits));
    znn_hasher hasher;
    znn_hasher_begin(&hasher);
    assert_int_equal(paths->count(counts, bits, src, elements, size, every, &hasher),
                     count_plainly(expected, bits, src, elements, size, every));
    assert_memory_equal(counts, expected, sizeof *counts << bits);
    assert_int_equal(znn_hasher_end(&hasher), znn_hash(src, elements * size));
    assert_int_equal(paths->count(counts, bits, src, elements, size, every, NULL),
                     count_plainly(expected, bits, src, elements, size, every));
    assert_memory_equal(counts, expected, sizeof *counts << bits);
    free(src);
    free(expected);
    free(counts);
}

static void symbols_are_counted_and_content_hashed(void **state)
{
    (void)state;
    static const struct {
        unsigned size, bits;
    } kinds[] = {{1, 6}, {1, 7}, {2, 7}, {2, 9}, {4, 9}, {8, 12}};
    znn_isa_level list[ZNN_ISA_AVX512 + 1];
    size_t n = other_paths(list);
    list[n++] = ZNN_ISA_SCALAR;
    for (size_t p = 0; p < n; p++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            for (unsigned every = 1; every <= 4; every *= 2) {
                const znn_paths *paths = paths_of(list[p]);
                for (unsigned i = 0; i < 20; i++)
                    check_counts(paths, kinds[k].bits, 1 + random_below(8000), kinds[k].size, every);
                /* where the blocks that are hashed on the way end */
                for (size_t bytes = 4096; bytes <= 4096 + 192; bytes += 8)
                    check_counts(paths, kinds[k].bits, bytes / kinds[k].size, kinds[k].size, every);
                check_counts(paths, kinds[k].bits, 65536 + random_below(200), kinds[k].size, every);
            }
}

static void random_symbols(znn_symbols *symbols, const znn_fields *f)
{
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++) {
        symbols->of[i] = (uint16_t)(random_number() % (1u << f->symbol_bits) / 64 * 64 + i);
        if (symbols->of[i] >= 1u << f->symbol_bits)
            symbols->of[i] = (uint16_t)(i % (1u << f->symbol_bits));
    }
}

static void check_join(const znn_paths *paths, const znn_fields *f)
{
    const size_t groups = 1 + random_below(GROUPS_MAX), n = groups * ZNN_GROUP, size = n * f->element_size;
    znn_symbols symbols;
    random_symbols(&symbols, f);
    uint8_t *planes[ZNN_PLANES_MAX] = {0};
    for (unsigned p = 0; p < ZNN_PLANES_MAX; p++)
        if (p < f->byte_planes || p == ZNN_TOP_PLANE) { /* a vector may be read past the last group */
            planes[p] = room(groups * znn_plane_group_size(f, p) + 64);
            fill_random(planes[p], groups * znn_plane_group_size(f, p) + 64);
        }
    uint8_t *indices = room(n + 64), *a = room(size), *b = room(size + 1);
    for (size_t i = 0; i < n; i++)
        indices[i] = (uint8_t)random_below(ZNN_NARROW_INDICES);
    znn_join_tables tables;
    znn_fields_tables(&tables, f, &symbols, NULL);
    znn_fields_join(f, &tables, a, groups, indices, (const uint8_t *const *)planes);
    paths->join(f, b + 1, groups, indices, &symbols, (const uint8_t *const *)planes);
    assert_memory_equal(a, b + 1, size);
    for (unsigned p = 0; p < ZNN_PLANES_MAX; p++)
        free(planes[p]);
    free(indices), free(a), free(b);
}

static void check_split(const znn_paths *paths, const znn_fields *f, unsigned kind)
{
    const size_t groups = 1 + random_below(GROUPS_MAX), n = groups * ZNN_GROUP, size = n * f->element_size;
    uint8_t *src = room(size), codes[ZNN_NARROW_INDICES];
    fill_random(src, size);
    znn_symbols symbols;
    random_symbols(&symbols, f);
    if (kind) /* indices that no symbol has */
        for (unsigned i = 0; i < ZNN_NARROW_INDICES; i += 1 + random_below(20))
            symbols.of[i] = 65535;
    for (unsigned i = 0; i < ZNN_NARROW_INDICES; i++)
        codes[i] = (uint8_t)(random_below(4) < kind ? ZNN_NARROW_ESCAPE | 5 : i);
    if (f->drop % 8) /* what is dropped is zero */
        for (size_t i = 0; i < size; i += f->element_size)
            for (unsigned bit = 0; bit < f->drop; bit++)
                src[i + bit / 8] &= (uint8_t) ~(1u << bit % 8);
    /* many elements whose symbol is known */
    for (size_t i = 0; i < n; i++) {
        const uint16_t symbol = symbols.of[random_below(ZNN_NARROW_INDICES)];
        if (symbol != 65535 && random_below(16))
            znn_fields_patch(f, src, i, symbol);
    }
    uint8_t *a[ZNN_PLANES_MAX] = {0}, *b[ZNN_PLANES_MAX] = {0};
    for (unsigned p = 0; p < ZNN_PLANES_MAX; p++)
        if (p < f->byte_planes || p == ZNN_TOP_PLANE) {
            a[p] = room(groups * znn_plane_group_size(f, p));
            b[p] = room(groups * znn_plane_group_size(f, p) + 64);
        }
    uint16_t *whole = room(2 * n);
    znn_fields_split(f, src, groups, whole, a);
    uint8_t *out = room(n + 64), *escaped = room(n + 64);
    uint64_t *missing = room(8 * n);
    znn_split_codes c = {
        .symbols = &symbols, .codes = codes, .common = 7, .out = out, .escaped = escaped, .missing = missing};
    paths->split(f, src, groups, &c, b);
    size_t escapes = 0, missed = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned symbol = whole[i], index = symbol % ZNN_NARROW_INDICES;
        if (symbols.of[index] == symbol) {
            assert_int_equal(out[i], codes[index]);
            if (codes[index] & ZNN_NARROW_ESCAPE)
                assert_int_equal(escaped[escapes++], index);
        } else {
            assert_int_equal(out[i], 7);
            assert_true(missed < c.missing_count);
            assert_int_equal(missing[missed++], (uint64_t)i << 16 | symbol);
        }
    }
    assert_int_equal(c.missing_count, missed);
    assert_ptr_equal(c.out, out + n);
    assert_ptr_equal(c.escaped, escaped + escapes);
    for (unsigned p = 0; p < ZNN_PLANES_MAX; p++) {
        if (a[p])
            assert_memory_equal(a[p], b[p], groups * znn_plane_group_size(f, p));
        free(a[p]), free(b[p]);
    }
    free(src), free(whole), free(out), free(escaped), free(missing);
}

static void elements_are_cut_and_joined_the_same(void **state)
{
    (void)state;
    random_state = 4;
    znn_isa_level list[ZNN_ISA_AVX512 + 1];
    size_t n = other_paths(list);
    list[n++] = ZNN_ISA_SCALAR; /* what it knows, against what takes any layout */
    for (size_t i = 0; i < n; i++) {
        const znn_paths *paths = paths_of(list[i]);
        unsigned known = 0;
        for (unsigned size = 1; size <= 8; size *= 2)
            for (unsigned drop = 0; drop < 8 * size; drop++)
                for (unsigned bits = 1; bits <= 15; bits++) {
                    znn_fields f;
                    if (!znn_fields_init(&f, size, drop, bits) || !paths->knows || !paths->knows(&f))
                        continue;
                    known++;
                    check_join(paths, &f);
                    for (unsigned kind = 0; kind < 3; kind++)
                        check_split(paths, &f, kind);
                }
        assert_true(known > 0 || !paths->knows);
    }
}

/* ---- whole chunks ---- */

typedef struct {
    znn_chunk_coder *encoder, *decoder;
} coders;

#define CONTENT_MAX (320u << 10)

static int setup(void **state)
{
    znn_options options;
    znn_options_init(&options);
    const znn_allocator allocator = znn_allocator_from(&options);
    coders *c = room(sizeof *c);
    c->encoder = znn_chunk_coder_new(CONTENT_MAX, 1, &allocator);
    c->decoder = znn_chunk_coder_new(CONTENT_MAX, 0, &allocator);
    *state = c;
    return !c->encoder || !c->decoder;
}

static int teardown(void **state)
{
    coders *c = *state;
    znn_chunk_coder_free(c->encoder);
    znn_chunk_coder_free(c->decoder);
    free(c);
    return 0;
}

/* The payload, in memory of exactly its size. */
static uint8_t *encode_with(znn_isa_level isa, const coders *c, const uint8_t *src, size_t n, znn_dtype dtype,
                            int level, znn_chunk *chunk)
{
    uint8_t *payload = room(znn_chunk_encode_room(n));
    assert_true(znn_cpu_isa_use(isa));
    assert_int_equal(znn_chunk_encode(c->encoder, payload, src, n, dtype, level, true, chunk), ZNN_OK);
    uint8_t *exact = room(chunk->stored_size);
    memcpy(exact, payload, chunk->stored_size);
    free(payload);
    return exact;
}

static void check_chunk(const coders *c, znn_isa_level isa, size_t n, znn_dtype dtype, kind k)
{
    const size_t from = random_below(64), to = random_below(64); /* dtypes have no alignment */
    uint8_t *src = room(from + n), *dst = room(to + n);
    fill_content(src + from, n, dtype, k);
    const int level = random_below(4) ? 3 : 9;
    znn_chunk a, b;
    uint8_t *scalar = encode_with(ZNN_ISA_SCALAR, c, src + from, n, dtype, level, &a);
    uint8_t *other = encode_with(isa, c, src + from, n, dtype, level, &b);
    assert_int_equal(a.stored_size, b.stored_size);
    assert_int_equal(a.method, b.method);
    assert_true(a.checksum == b.checksum);
    assert_memory_equal(scalar, other, a.stored_size);
    for (unsigned way = 0; way < 4; way++) {
        memset(dst, 0, to + n);
        assert_int_equal(znn_chunk_decode(c->decoder, dst + to, scalar, a.stored_size, &a, way & 1, way & 2), ZNN_OK);
        assert_memory_equal(dst + to, src + from, n);
    }
    free(src), free(dst), free(scalar), free(other);
}

static void chunks_are_the_same_both_ways(void **state)
{
    static const size_t elements[] = {63, 64, 65, 1000, 4095, 4096, 4097, 32767, 32768, 32769, 33000, 40000};
    random_state = 5;
    FOR_OTHER_PATHS(isa)
    {
        for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++)
            for (kind k = 0; k < KINDS; k++)
                for (size_t e = 0; e < sizeof elements / sizeof *elements; e++) {
                    const unsigned size = znn_dtype_size(dtypes[d]);
                    check_chunk(*state, isa, elements[e] * size + random_below(size), dtypes[d], k);
                }
    }
}

/* The same status, and the same content where it is one. */
static void check_damaged(const coders *c, znn_isa_level isa, const uint8_t *payload, const znn_chunk *chunk)
{
    const size_t n = chunk->content_size;
    uint8_t *exact = room(chunk->stored_size), *a = room(n), *b = room(n);
    memcpy(exact, payload, chunk->stored_size);
    const bool large = random_below(2);
    assert_true(znn_cpu_isa_use(ZNN_ISA_SCALAR));
    const znn_status status = znn_chunk_decode(c->decoder, a, exact, chunk->stored_size, chunk, false, large);
    assert_true(znn_cpu_isa_use(isa));
    assert_int_equal(znn_chunk_decode(c->decoder, b, exact, chunk->stored_size, chunk, false, large), status);
    if (status == ZNN_OK)
        assert_memory_equal(a, b, n);
    free(exact), free(a), free(b);
}

static void damaged_chunks_get_the_same_answer(void **state)
{
    const coders *c = *state;
    random_state = 6;
    FOR_OTHER_PATHS(isa)
    {
        for (unsigned sample = 0; sample < 12 * KINDS; sample++) {
            const znn_dtype dtype = dtypes[sample / 2 % 6];
            const unsigned size = znn_dtype_size(dtype);
            const size_t n = (random_below(4) ? 33000 : 2000) * size + random_below(size);
            uint8_t *src = room(n);
            fill_content(src, n, dtype, (kind)(sample / 12));
            znn_chunk chunk;
            uint8_t *payload = encode_with(ZNN_ISA_SCALAR, c, src, n, dtype, sample % 2 ? 3 : 9, &chunk);
            for (unsigned damage = 0; damage < 24; damage++) {
                znn_chunk damaged = chunk;
                /* header and table, anywhere, or cut short */
                const uint32_t where = damage % 3 == 0   ? random_below(ZNN_MIN(chunk.stored_size, 16))
                                       : damage % 3 == 1 ? random_below(ZNN_MIN(chunk.stored_size, 80))
                                                         : random_below(chunk.stored_size);
                const uint8_t was = payload[where];
                payload[where] ^= (uint8_t)(1u << random_below(8));
                if (damage % 8 == 7)
                    damaged.stored_size = random_below(chunk.stored_size);
                check_damaged(c, isa, payload, &damaged);
                payload[where] = was;
            }
            free(src), free(payload);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(narrow_streams_are_the_same_both_ways),
        cmocka_unit_test(narrow_decoders_agree_on_noise),
        cmocka_unit_test(an_escape_may_be_any_byte),
        cmocka_unit_test(escapes_are_read_the_same),
        cmocka_unit_test(symbols_are_counted_and_content_hashed),
        cmocka_unit_test(elements_are_cut_and_joined_the_same),
        cmocka_unit_test(chunks_are_the_same_both_ways),
        cmocka_unit_test(damaged_chunks_get_the_same_answer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
