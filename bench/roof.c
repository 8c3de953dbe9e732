/*
 * What memory gives on this machine, as a roof for decoding: GB/s of plain reads, of streaming stores, and of both as
 * decoding BF16 has them (two bytes are read for three written), by one thread and by several at once.
 *
 *     cmake --build build --target roof && build/roof [THREADS]
 */
#define _POSIX_C_SOURCE 200809L
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIZE ((size_t)960 << 20) /* written; divisible by whatever is needed */
#define STEP ((size_t)1024)
#define ROUNDS 7
#define THREADS_MAX 64

enum { COPY, READ, STORE, DECODE, WORKS };
static const char *const names[WORKS] = {"memcpy", "read", "streaming stores", "read 2, stream 3"};

static uint8_t *from, *to;
static int work, threads;
static _Atomic uint64_t seen; /* so that reads are not left out */

/* Vectors of 64 bytes, as two of 32, so that AVX2 is enough. */
static __attribute__((target("avx2"))) uint64_t read_lines(const uint8_t *p, size_t size)
{
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i < size; i += 64)
        sum = _mm256_xor_si256(sum, _mm256_xor_si256(_mm256_load_si256((const __m256i *)(p + i)),
                                                     _mm256_load_si256((const __m256i *)(p + i + 32))));
    return (uint64_t)_mm256_extract_epi64(sum, 0);
}

static __attribute__((target("avx2"))) void stream_lines(uint8_t *p, size_t size)
{
    const __m256i v = _mm256_set1_epi8(1);
    for (size_t i = 0; i < size; i += 64) {
        _mm256_stream_si256((__m256i *)(p + i), v);
        _mm256_stream_si256((__m256i *)(p + i + 32), v);
    }
}

static void *part_of_work(void *argument)
{
    uint64_t sum = 0;
    const size_t part = SIZE / (size_t)threads & ~(size_t)4095, at = (size_t)(intptr_t)argument * part;
    switch (work) {
    case COPY: memcpy(to + at, from + at, part); break;
    case READ: sum = read_lines(from + at, part); break;
    case STORE: stream_lines(to + at, part); break;
    default:
        for (size_t i = 0; i + 3 * STEP <= part; i += 3 * STEP) {
            sum += read_lines(from + at + i / 3 * 2, 2 * STEP);
            stream_lines(to + at + i, 3 * STEP);
        }
    }
    _mm_sfence();
    seen += sum;
    return NULL;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double measure(void)
{
    double times[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        pthread_t others[THREADS_MAX];
        const double begun = seconds();
        for (int i = 1; i < threads; i++)
            pthread_create(&others[i], NULL, part_of_work, (void *)(intptr_t)i);
        part_of_work(NULL);
        for (int i = 1; i < threads; i++)
            pthread_join(others[i], NULL);
        times[r] = seconds() - begun;
    }
    qsort(times, ROUNDS, sizeof *times, by_value);
    return (double)SIZE / 1e9 / times[ROUNDS / 2];
}

int main(int count, char **arguments)
{
    int most = count > 1 ? atoi(arguments[1]) : 2;
    most = most < 1 ? 1 : most > THREADS_MAX ? THREADS_MAX : most;
    from = aligned_alloc(4096, SIZE);
    to = aligned_alloc(4096, SIZE);
    if (!from || !to)
        return 1;
    memset(from, 1, SIZE);
    memset(to, 1, SIZE);
    printf("%-18s", "GB/s, threads:");
    for (threads = 1; threads <= most; threads++)
        printf("%8d", threads);
    putchar('\n');
    for (work = 0; work < WORKS; work++) {
        printf("%-18s", names[work]);
        for (threads = 1; threads <= most; threads++)
            printf("%8.1f", measure());
        putchar('\n');
    }
    return 0;
}
