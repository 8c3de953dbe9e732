/* Probing and cutting: the plan of a content does not depend on how much of it is shown at once. */
#include "fuzz.h"

#include "formats/plan.h"

#define PIECES_MAX 4096

/* The pieces of the content; each call sees at most `show` bytes more than are wanted. */
static size_t plan_all(znn_piece *pieces, const uint8_t *content, size_t size, znn_dtype dtype, size_t chunk_max,
                       size_t show)
{
    znn_allocator allocator = znn_allocator_from(NULL);
    znn_plan *plan = znn_plan_new(dtype, chunk_max, &allocator);
    CHECK(plan);
    size_t count = 0;
    for (size_t at = 0; at < size;) {
        size_t wants = znn_plan_wants(plan), available = size - at;
        bool at_end = available <= wants || available - wants <= show;
        available = at_end ? available : wants + show;
        uint8_t *shown = fuzz_alloc(available);
        memcpy(shown, content + at, available);
        znn_piece piece;
        CHECK(znn_plan_next(plan, shown, available, at_end, &piece) == ZNN_OK);
        free(shown);
        if (piece.size == 0) {
            CHECK(znn_plan_wants(plan) > wants);
            continue;
        }
        CHECK(piece.size <= chunk_max && piece.size <= available && znn_dtype_size(piece.dtype) > 0);
        CHECK(count < PIECES_MAX);
        pieces[count++] = piece;
        at += piece.size;
    }
    znn_plan_free(plan);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static znn_piece a[PIECES_MAX], b[PIECES_MAX];
    fuzz_input in = {data, size};
    unsigned choice = fuzz_byte(&in);
    znn_dtype dtype = choice % 8 ? ZNN_AUTO : (znn_dtype)(choice / 8 % ZNN_DTYPE_COUNT);
    uint64_t state = fuzz_byte(&in);
    size_t show = fuzz_u16(&in), times = choice & 128 ? 64 : 1;
    times = in.size && in.size * times > 700000 ? 700000 / in.size + 1 : times;
    /* What is repeated has noise in the bytes that are no exponents'. */
    unsigned width = 1u << (state & 3);
    size_t n = in.size * times;
    uint8_t *content = fuzz_alloc(n);
    for (size_t i = 0; i < n; i++)
        content[i] = (uint8_t)(in.data[i % in.size] ^ (times > 1 && i % width != width - 1 ? fuzz_random(&state) : 0));
    size_t count = plan_all(a, content, n, dtype, 1 << 16, show);
    CHECK(plan_all(b, content, n, dtype, 1 << 16, SIZE_MAX) == count);
    for (size_t i = 0; i < count; i++)
        CHECK(a[i].size == b[i].size && a[i].dtype == b[i].dtype && a[i].starts_segment == b[i].starts_segment);
    free(content);
    return 0;
}
