#include "base/shuffles.h"

#define BELOW(m, l) __builtin_popcount((m) & ((1u << (l)) - 1))
/* the j-th lane whose bit is set: as many lanes have at most j such up to them */
#define UP_TO(m, l, j) (BELOW(m, (l) + 1) <= (j))
#define NTH(m, j)                                                                                                      \
    (UP_TO(m, 0, j) + UP_TO(m, 1, j) + UP_TO(m, 2, j) + UP_TO(m, 3, j) + UP_TO(m, 4, j) + UP_TO(m, 5, j) +             \
     UP_TO(m, 6, j) + UP_TO(m, 7, j))
#define COMPRESS(m, k) (uint64_t)((k) + BELOW(m, 8) >= 8 ? NTH(m, (k) + BELOW(m, 8) - 8) : 0x80) << 8 * (k)
#define EIGHT(what, m)                                                                                                 \
    (what(m, 0) | what(m, 1) | what(m, 2) | what(m, 3) | what(m, 4) | what(m, 5) | what(m, 6) | what(m, 7))
#define X4(what, m) EIGHT(what, (m) + 0u), EIGHT(what, (m) + 1u), EIGHT(what, (m) + 2u), EIGHT(what, (m) + 3u)
#define X16(what, m) X4(what, m), X4(what, (m) + 4u), X4(what, (m) + 8u), X4(what, (m) + 12u)
#define X64(what, m) X16(what, m), X16(what, (m) + 16u), X16(what, (m) + 32u), X16(what, (m) + 48u)
#define X256(what) X64(what, 0u), X64(what, 64u), X64(what, 128u), X64(what, 192u)

const uint64_t znn_compress8[256] = {X256(COMPRESS)};
