/*
 * The narrow coder's step with AVX-512 (VBMI, VBMI2): 64 lanes a vector.
 *
 * Safety: a state is a slot of 8 bits and a high byte, used only as indices into
 * registers, so no stream can make this code touch memory outside. The only
 * reads from memory are the refills, for which znn_narrow_decoder_ready promises
 * `lanes` bytes a row and a vector more beyond d->next, and the escapes, of which
 * there is one for every symbol.
 */
#ifndef ZNN_NARROW_AVX512_H
#define ZNN_NARROW_AVX512_H

#include <immintrin.h>

#include "entropy/narrow.h"

#define ZNN_INLINE static inline __attribute__((always_inline))

typedef struct {
    __m512i code[4]; /* of slots 0..63, 64..127, ... */
    __m512i freq, start;
    __m512i offset[4]; /* of slots, if they are spread */
    __m512i byte;      /* 0x00ff */
} znn_narrow_vectors;

ZNN_INLINE znn_narrow_vectors znn_narrow_vectors_load(const znn_narrow_table *t)
{
    znn_narrow_vectors r;
    for (unsigned i = 0; i < 4; i++) {
        r.code[i] = _mm512_loadu_si512(t->code_of_slot + 64 * i);
        r.offset[i] = _mm512_loadu_si512(t->offset_of_slot + 64 * i);
    }
    r.byte = _mm512_set1_epi16(0x00ff);
    __asm__("" : "+v"(r.byte)); /* or it would be made anew for every step */
    r.freq = _mm512_loadu_si512(t->freq);
    r.start = _mm512_loadu_si512(t->start);
    return r;
}

/* Each byte's value in a table of 256. */
ZNN_INLINE __m512i znn_look_up(const __m512i table[4], __m512i index, __mmask64 upper_half)
{
    __m512i lower = _mm512_permutex2var_epi8(table[0], index, table[1]);
    __m512i upper = _mm512_permutex2var_epi8(table[2], index, table[3]);
    return _mm512_mask_mov_epi8(lower, upper_half, upper);
}

/* below_128: no frequency is more than 127. The indices of 64 lanes; bits 6 and 7 of each are noise where the coder
 * escaped. */
ZNN_INLINE __m512i znn_narrow_step(const znn_narrow_vectors *t, const bool spread, const bool below_128, __m512i *low,
                                   __m512i *high, const uint8_t **next, const uint8_t **escaped)
{
    const __m512i byte = t->byte;
    const __m512i slot = *low;
    const __mmask64 upper_half = _mm512_movepi8_mask(slot);
    __m512i code = znn_look_up(t->code, slot, upper_half);
    __m512i offset = spread ? znn_look_up(t->offset, slot, upper_half)
                            : _mm512_sub_epi8(slot, _mm512_permutexvar_epi8(code, t->start));
    /* freq * high in 16 bits, the even and the odd lanes apart; then their low and
     * their high bytes together, and the offset with its carry */
    __m512i even = _mm512_maskz_permutexvar_epi8(0x5555555555555555, code, t->freq);
    __m512i odd = _mm512_maskz_permutexvar_epi8(0xaaaaaaaaaaaaaaaa, code, t->freq);
    if (below_128) { /* a product that takes its second factor for signed */
        even = _mm512_maddubs_epi16(*high, even);
        odd = _mm512_maddubs_epi16(*high, odd);
    } else {
        even = _mm512_mullo_epi16(even, _mm512_and_si512(*high, byte));
        odd = _mm512_mulhi_epu16(odd, _mm512_andnot_si512(byte, *high));
    }
    even = _mm512_add_epi16(even, _mm512_and_si512(offset, byte));
    odd = _mm512_add_epi16(odd, _mm512_srli_epi16(offset, 8));
    /* 0xca: byte ? first : second */
    __m512i new_low = _mm512_ternarylogic_epi32(byte, even, _mm512_slli_epi16(odd, 8), 0xca);
    __m512i new_high = _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(even, 8), odd, 0xca);
    __mmask64 refill = _mm512_testn_epi8_mask(new_high, new_high);
    *high = _mm512_mask_mov_epi8(new_high, refill, new_low);
    *low = _mm512_mask_expand_epi8(new_low, refill, _mm512_loadu_si512(*next));
    *next += _mm_popcnt_u64(refill);
    __mmask64 escape = _mm512_movepi8_mask(code);
    code = _mm512_mask_expand_epi8(code, escape, _mm512_loadu_si512(*escaped));
    *escaped += _mm_popcnt_u64(escape);
    return code;
}

#endif
