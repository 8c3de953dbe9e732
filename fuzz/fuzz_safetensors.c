/*
 * znn_safetensors_*: either the input is a file, or a list of tensors from which
 * a valid file is made, which must come back from its compressed form; and the
 * compressed form, with some bytes changed, must be refused or read alike by all ways.
 */
#include "memory.h"

#include "base/base.h"

#define FILE_ROOM ((size_t)1 << 20)

typedef struct {
    uint8_t *data;
    size_t size;
} memory_file;

static int write_file(void *opaque, uint64_t offset, const void *src, size_t size)
{
    memory_file *f = opaque;
    if (offset > FILE_ROOM || size > FILE_ROOM - offset)
        return -1;
    if (size)
        memcpy(f->data + offset, src, size);
    f->size = offset + size > f->size ? (size_t)(offset + size) : f->size;
    return 0;
}

static void check_reason(znn_status status, const znn_reason *reason)
{
    CHECK(memchr(reason->text, 0, sizeof reason->text));
    if (status != ZNN_OK && status != ZNN_ERROR_MEMORY)
        CHECK(reason->text[0]);
    for (const char *c = reason->text; *c; c++)
        CHECK((unsigned char)*c >= 0x20 && *c != 0x7f);
}

/* All that can be asked of a file; and its other form, if there is one. False if something was refused. */
static bool use(const uint8_t *data, size_t size, bool by_function, memory_file *other, bool *compressed)
{
    fuzz_input in = {data, size};
    znn_options options;
    znn_options_init(&options);
    options.alloc = FUZZ_ALLOC;
    options.free = FUZZ_FREE;
    znn_reason reason = {""};
    znn_safetensors *file;
    znn_status status = by_function ? znn_safetensors_open_fn(&file, fuzz_read, &in, size, &options, &reason)
                                    : znn_safetensors_open(&file, data, size, &options, &reason);
    check_reason(status, &reason);
    if (status != ZNN_OK)
        return false;
    uint64_t header_size;
    *compressed = znn_safetensors_is_compressed(file);
    CHECK(znn_safetensors_header(file, &header_size));
    bool ok = true;
    for (uint64_t i = 0; i < znn_safetensors_count(file); i++) {
        znn_safetensors_tensor t;
        CHECK(znn_safetensors_tensor_info(file, i, &t) == ZNN_OK);
        CHECK(t.stored_offset <= size && t.stored_size <= size - t.stored_offset && t.stored_size <= t.size);
        CHECK(strlen(t.name) < size && t.dtype);
        if (t.size > FILE_ROOM) {
            ok = false;
            continue;
        }
        uint8_t *content = fuzz_alloc((size_t)t.size), *part = fuzz_alloc((size_t)t.size / 2);
        reason.text[0] = 0;
        status = znn_safetensors_read(file, i, content, 0, t.size, &reason);
        check_reason(status, &reason);
        if (status == ZNN_OK) {
            CHECK(znn_safetensors_read(file, i, part, t.size / 3, t.size / 2, &reason) == ZNN_OK);
            CHECK(memcmp(part, content + t.size / 3, (size_t)t.size / 2) == 0);
        }
        ok = ok && status == ZNN_OK;
        free(part);
        free(content);
    }
    uint64_t written = 0;
    reason.text[0] = 0;
    other->size = 0;
    status = (*compressed ? znn_safetensors_decompress : znn_safetensors_compress)(file, write_file, other, &written,
                                                                                   &reason);
    check_reason(status, &reason);
    CHECK(status == ZNN_OK || !ok || written <= FILE_ROOM || status == ZNN_ERROR_IO);
    if (status == ZNN_OK) {
        CHECK(written <= other->size);
        other->size = (size_t)written;
    }
    znn_safetensors_free(file);
    return ok && status == ZNN_OK;
}

static void use_and_return(const uint8_t *data, size_t size, bool by_function)
{
    memory_file other = {fuzz_alloc(FILE_ROOM), 0}, again = {fuzz_alloc(FILE_ROOM), 0};
    bool was_compressed, is_compressed;
    if (use(data, size, by_function, &other, &was_compressed)) {
        CHECK(use(other.data, other.size, !by_function, &again, &is_compressed));
        if (!was_compressed) {
            CHECK(is_compressed);
            CHECK(again.size == size && memcmp(again.data, data, size) == 0);
        }
    }
    free(again.data);
    free(other.data);
}

/* A valid file of some tensors, whose bytes are the input's, repeated. */
static void make_file(memory_file *f, fuzz_input *in)
{
    static const struct {
        const char *name;
        unsigned bits;
    } dtypes[] = {{"F32", 32}, {"BF16", 16}, {"F16", 16}, {"F8_E4M3", 8}, {"U8", 8}, {"I64", 64}, {"F4", 4}, {"BOOL", 8}};
    static char json[1 << 16];
    size_t at = 0, data_size = 0, sizes[8];
    unsigned count = fuzz_byte(in) % 8;
    at += (size_t)sprintf(json, "{");
    if (fuzz_byte(in) % 2)
        at += (size_t)sprintf(json + at, "\"__metadata__\":{\"format\":\"pt\"}%s", count ? "," : "");
    for (unsigned i = 0; i < count; i++) {
        unsigned kind = fuzz_byte(in) % 8, elements = fuzz_u16(in) % 16384 & ~1u;
        sizes[i] = (size_t)elements * dtypes[kind].bits / 8;
        at += (size_t)sprintf(json + at, "\"t%u\":{\"dtype\":\"%s\",\"shape\":[%u],\"data_offsets\":[%zu,%zu]}%s", i,
                              dtypes[kind].name, elements, data_size, data_size + sizes[i], i + 1 < count ? "," : "");
        data_size += sizes[i];
    }
    at += (size_t)sprintf(json + at, "}%*s", fuzz_byte(in) % 9, "");
    znn_store64(f->data, at);
    memcpy(f->data + 8, json, at);
    uint64_t state = fuzz_byte(in);
    for (size_t i = 0; i < data_size; i++)
        f->data[8 + at + i] =
            in->size ? (uint8_t)(in->data[i % in->size] + (i % 2 ? 0 : fuzz_random(&state) & state)) : 0;
    f->size = 8 + at + data_size;
}

static void change(memory_file *f, fuzz_input *changes)
{
    while (changes->size >= 4 && f->size) {
        size_t at = fuzz_u16(changes);
        unsigned choice = fuzz_byte(changes);
        at = choice & 1 ? at : f->size - 1 - at % f->size;
        if (choice & 2)
            f->size -= choice & 4 && f->size > 8 ? choice / 8 % 8 : 0;
        f->data[at % f->size] = fuzz_byte(changes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    unsigned choice = fuzz_byte(&in);
    fuzz_use_isa(choice >> 4);
    if (choice % 4 == 0) {
        uint8_t *exact = fuzz_alloc(in.size);
        if (in.size)
            memcpy(exact, in.data, in.size);
        /* Lengthening the header by one letter should not need a second change. */
        if (choice & 4 && in.size >= 8)
            znn_store64(exact, choice / 8 < in.size - 8 ? in.size - 8 - choice / 8 : 0);
        use_and_return(exact, in.size, choice & 8);
        free(exact);
        return 0;
    }
    memory_file file = {fuzz_alloc(FILE_ROOM), 0}, compressed = {fuzz_alloc(FILE_ROOM), 0};
    fuzz_input changes = {in.data, in.size < 4u * (choice / 4 % 8) ? in.size : 4u * (choice / 4 % 8)};
    in.data += changes.size;
    in.size -= changes.size;
    make_file(&file, &in);
    bool is_compressed;
    uint8_t *exact = fuzz_alloc(file.size);
    memcpy(exact, file.data, file.size);
    CHECK(use(exact, file.size, choice & 128, &compressed, &is_compressed) && !is_compressed);
    free(exact);
    use_and_return(file.data, file.size, choice & 128);
    change(&compressed, &changes);
    exact = fuzz_alloc(compressed.size);
    memcpy(exact, compressed.data, compressed.size);
    use_and_return(exact, compressed.size, choice & 64);
    free(exact);
    free(file.data);
    free(compressed.data);
    return 0;
}
