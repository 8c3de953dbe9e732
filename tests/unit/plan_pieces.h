/* For the tests of plans: every piece of a content, and made-up weights. */
#ifndef PLAN_PIECES_H
#define PLAN_PIECES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "formats/plan.h"

#define PIECES_MAX 4096

typedef struct {
    size_t at, size;
    znn_dtype dtype;
    bool starts_segment;
} plan_piece;

static uint64_t random_state = 1;

static inline uint32_t random32(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 32);
}

/* About normal, of standard deviation 0.03, as weights are. */
static inline double random_weight(void)
{
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += random32() / 4294967296.0 - 0.5;
    return sum * 0.03;
}

/* The pieces of content; each call sees at most `show` bytes more than the plan
 * wants. Checks what holds for every plan. */
static inline size_t plan_all(plan_piece *pieces, const uint8_t *content, size_t size, znn_dtype dtype,
                              size_t chunk_max, size_t show)
{
    znn_allocator allocator = znn_allocator_from(NULL);
    znn_plan *plan = znn_plan_new(dtype, chunk_max, &allocator);
    assert_non_null(plan);
    size_t count = 0;
    for (size_t at = 0; at < size;) {
        size_t wants = znn_plan_wants(plan), available = size - at;
        bool at_end = true;
        if (available > wants && available - wants > show) {
            available = wants + show;
            at_end = false;
        }
        /* A copy of exactly what is shown, so that a sanitizer sees any read beyond. */
        uint8_t *shown = malloc(available);
        assert_non_null(shown);
        memcpy(shown, content + at, available);
        znn_piece piece;
        assert_int_equal(znn_plan_next(plan, shown, available, at_end, &piece), ZNN_OK);
        free(shown);
        if (piece.size == 0) {
            assert_true(znn_plan_wants(plan) > wants);
            continue;
        }
        assert_true(piece.size <= chunk_max && piece.size <= available);
        assert_true(znn_dtype_size(piece.dtype) > 0);
        assert_true(count > 0 || piece.starts_segment);
        assert_true(piece.starts_segment || piece.dtype == pieces[count - 1].dtype);
        assert_true(count < PIECES_MAX);
        pieces[count++] = (plan_piece){at, piece.size, piece.dtype, piece.starts_segment};
        at += piece.size;
    }
    znn_plan_free(plan);
    return count;
}

#endif
