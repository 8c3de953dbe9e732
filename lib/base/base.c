#include "base/base.h"

#include <ctype.h>
#include <stdlib.h>

#define ALIGNMENT 64

const char *znn_version(void)
{
    return ZNN_VERSION_STRING;
}

const char *znn_status_message(znn_status status)
{
    switch (status) {
    case ZNN_OK: return "success";
    case ZNN_ERROR_ARGUMENT: return "an argument is out of range";
    case ZNN_ERROR_MEMORY: return "out of memory";
    case ZNN_ERROR_DST_TOO_SMALL: return "the destination is too small";
    case ZNN_ERROR_FORMAT: return "not a znn file, or its structure is damaged";
    case ZNN_ERROR_UNSUPPORTED: return "written by a newer version, or with a feature that this build lacks";
    case ZNN_ERROR_TRUNCATED: return "the file ends too early";
    case ZNN_ERROR_CHECKSUM: return "the content does not match its checksum";
    case ZNN_ERROR_LIMIT: return "needs more memory than the limit allows";
    case ZNN_ERROR_IO: return "reading or writing failed";
    case ZNN_ERROR_BASE: return "the base that this delta needs is missing, or is another one";
    }
    return "unknown error";
}

/* ---- dtypes ---- */

static const struct {
    const char *name;
    unsigned size;
} dtypes[ZNN_DTYPE_COUNT] = {
    [ZNN_AUTO] = {"auto", 0},       [ZNN_BYTES] = {"bytes", 1},     [ZNN_BOOL] = {"bool", 1},
    [ZNN_I8] = {"i8", 1},           [ZNN_U8] = {"u8", 1},           [ZNN_I16] = {"i16", 2},
    [ZNN_U16] = {"u16", 2},         [ZNN_I32] = {"i32", 4},         [ZNN_U32] = {"u32", 4},
    [ZNN_I64] = {"i64", 8},         [ZNN_U64] = {"u64", 8},         [ZNN_F8_E4M3] = {"f8_e4m3", 1},
    [ZNN_F8_E5M2] = {"f8_e5m2", 1}, [ZNN_F16] = {"f16", 2},         [ZNN_BF16] = {"bf16", 2},
    [ZNN_F32] = {"f32", 4},         [ZNN_F64] = {"f64", 8},
};

static const struct {
    const char *name;
    znn_dtype dtype;
} spellings[] = {
    {"raw", ZNN_BYTES},          {"boolean", ZNN_BOOL},           {"int8", ZNN_I8},
    {"uint8", ZNN_U8},           {"int16", ZNN_I16},              {"uint16", ZNN_U16},
    {"int32", ZNN_I32},          {"uint32", ZNN_U32},             {"int64", ZNN_I64},
    {"uint64", ZNN_U64},         {"f8", ZNN_F8_E4M3},             {"fp8", ZNN_F8_E4M3},
    {"float8_e4m3fn", ZNN_F8_E4M3}, {"float8_e4m3", ZNN_F8_E4M3}, {"float8_e5m2", ZNN_F8_E5M2},
    {"float16", ZNN_F16},        {"fp16", ZNN_F16},               {"half", ZNN_F16},
    {"bfloat16", ZNN_BF16},      {"float32", ZNN_F32},            {"fp32", ZNN_F32},
    {"float", ZNN_F32},          {"float64", ZNN_F64},            {"fp64", ZNN_F64},
    {"double", ZNN_F64},
};

const char *znn_dtype_name(znn_dtype dtype)
{
    return (unsigned)dtype < ZNN_DTYPE_COUNT ? dtypes[dtype].name : NULL;
}

unsigned znn_dtype_size(znn_dtype dtype)
{
    return (unsigned)dtype < ZNN_DTYPE_COUNT ? dtypes[dtype].size : 0;
}

static bool same_word(const char *a, const char *b)
{
    while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b)) {
        a++;
        b++;
    }
    return tolower((unsigned char)*a) == tolower((unsigned char)*b);
}

int znn_dtype_from_name(const char *name)
{
    if (!name)
        return -1;
    for (int i = 0; i < ZNN_DTYPE_COUNT; i++)
        if (same_word(name, dtypes[i].name))
            return i;
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        if (same_word(name, spellings[i].name))
            return (int)spellings[i].dtype;
    return -1;
}

const char *znn_method_name(znn_method method)
{
    static const char *const names[] = {"stored", "constant", "zstd", "float", "groups", "repeat", "delta"};
    return (unsigned)method < sizeof names / sizeof *names ? names[method] : NULL;
}

/* ---- options ---- */

void znn_options_init(znn_options *options)
{
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->dtype = ZNN_AUTO;
    options->level = ZNN_LEVEL_DEFAULT;
    options->threads = 1;
    options->checksum = 1;
    options->content_size = ZNN_SIZE_UNKNOWN;
    options->memory_limit = 64u << 20;
}

znn_status znn_options_check(znn_options *copy, const znn_options *options)
{
    znn_options_init(copy);
    if (!options)
        return ZNN_OK;
    if (options->struct_size != sizeof *options)
        return ZNN_ERROR_ARGUMENT;
    *copy = *options;
    if ((unsigned)copy->dtype >= ZNN_DTYPE_COUNT || copy->level < 1 || copy->level > 9 || copy->threads < 0 ||
        copy->threads > 256 || (copy->checksum != 0 && copy->checksum != 1) || !copy->alloc != !copy->free)
        return ZNN_ERROR_ARGUMENT;
    return ZNN_OK;
}

/* ---- allocation ---- */

static void *default_alloc(void *opaque, size_t size)
{
    (void)opaque;
    return malloc(size);
}

static void default_free(void *opaque, void *address)
{
    (void)opaque;
    free(address);
}

znn_allocator znn_allocator_from(const znn_options *options)
{
    znn_allocator a = {default_alloc, default_free, NULL};
    if (options && options->alloc) {
        a.alloc = options->alloc;
        a.free = options->free;
        a.opaque = options->opaque;
    }
    return a;
}

void *znn_alloc(const znn_allocator *allocator, size_t size)
{
    if (size == 0 || size > SIZE_MAX - ALIGNMENT - sizeof(void *))
        return NULL;
    unsigned char *raw = allocator->alloc(allocator->opaque, size + ALIGNMENT + sizeof(void *));
    if (!raw)
        return NULL;
    uintptr_t p = ((uintptr_t)raw + sizeof(void *) + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    void *aligned = raw + (p - (uintptr_t)raw);
    memcpy((unsigned char *)aligned - sizeof(void *), &raw, sizeof raw); /* what znn_dealloc frees */
    return aligned;
}

void znn_dealloc(const znn_allocator *allocator, void *address)
{
    if (!address)
        return;
    void *raw;
    memcpy(&raw, (unsigned char *)address - sizeof(void *), sizeof raw);
    allocator->free(allocator->opaque, raw);
}
