/* Tables in NEON registers, which it looks up 64 bytes at a time, and bytes that are
 * packed or come and go by a mask. */
#ifndef ZNN_SHUFFLES_NEON_H
#define ZNN_SHUFFLES_NEON_H

#include <arm_neon.h>

#include "base/base.h"

#define ZNN_INLINE static inline __attribute__((always_inline))

/* Each byte's value in a table of 256, given by quarters. Tables are variables and parameters, not in structs:
 * compilers would keep them in memory. */
ZNN_INLINE uint8x16_t znn_look_up256(uint8x16x4_t q0, uint8x16x4_t q1, uint8x16x4_t q2, uint8x16x4_t q3,
                                     uint8x16_t index)
{
    /* what is not in a quarter leaves the byte as it is */
    uint8x16_t r = vqtbl4q_u8(q0, index);
    r = vqtbx4q_u8(r, q1, vsubq_u8(index, vdupq_n_u8(64)));
    r = vqtbx4q_u8(r, q2, vsubq_u8(index, vdupq_n_u8(128)));
    return vqtbx4q_u8(r, q3, vsubq_u8(index, vdupq_n_u8(192)));
}

ZNN_INLINE bool znn_any(uint8x16_t v)
{
    return vmaxvq_u32(vreinterpretq_u32_u8(v)) != 0;
}

/* Four bits for each byte that is 0 or all ones. */
ZNN_INLINE uint64_t znn_mask4(uint8x16_t v)
{
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(v), 4)), 0);
}

/* The next bytes, to the lanes that are all ones in `where`; anything to the others. Reads 16 of them. */
ZNN_INLINE uint8x16_t znn_expand(uint8x16_t where, const uint8_t **next)
{
    /* how many lanes there are up to each, negative; its complement is one less, positive */
    const uint8x16_t zero = vdupq_n_u8(0);
    uint8x16_t count = vaddq_u8(where, vextq_u8(zero, where, 15));
    count = vaddq_u8(count, vextq_u8(zero, count, 14));
    count = vaddq_u8(count, vextq_u8(zero, count, 12));
    count = vaddq_u8(count, vextq_u8(zero, count, 8));
    const uint8x16_t bytes = vld1q_u8(*next);
    *next += (uint8_t)-vgetq_lane_u8(count, 15);
    return vqtbl1q_u8(bytes, vmvnq_u8(count));
}

/* 16 values of 1 to 8 bits each, packed with no gaps, as words: 8 in `low`, 8 in `high`.
 * The value is at the top of its word; junk is below. */
typedef struct {
    uint8x16_t low, high; /* which 2 of 16 bytes hold each of them */
    int16x8_t shift;
} znn_unpacking;

typedef struct {
    uint16x8_t low, high;
} znn_words;

static inline znn_unpacking znn_unpacking_of(unsigned bits)
{
    uint8_t at[2][16];
    int16_t shift[8];
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned part = 0; part < 2; part++) {
            const unsigned byte = bits * (i + 8 * part) / 8;
            at[part][2 * i] = (uint8_t)byte;
            at[part][2 * i + 1] = (uint8_t)(byte + 1); /* 16, which is looked up as 0, where 8 bits are a byte */
        }
        shift[i] = (int16_t)(16 - bits - bits * i % 8);
    }
    return (znn_unpacking){.low = vld1q_u8(at[0]), .high = vld1q_u8(at[1]), .shift = vld1q_s16(shift)};
}

/* Reads 16 bytes at src. */
ZNN_INLINE znn_words znn_unpack(const znn_unpacking *u, const uint8_t *src)
{
    const uint8x16_t packed = vld1q_u8(src);
    return (znn_words){vshlq_u16(vreinterpretq_u16_u8(vqtbl1q_u8(packed, u->low)), u->shift),
                       vshlq_u16(vreinterpretq_u16_u8(vqtbl1q_u8(packed, u->high)), u->shift)};
}

#endif
