#include "chunk/paths.h"

static const znn_paths scalar = {
    .count = znn_count_scalar,
    .narrow_encode = znn_narrow_encode_scalar,
    .narrow_decode = znn_narrow_decode_scalar,
    .escapes_read = znn_narrow_escapes_read_scalar,
    .knows = znn_fields_known_scalar,
    .split = znn_fields_split_scalar,
    .join = znn_fields_join_scalar,
    .fused = znn_fused_decode_scalar,
};

#if ZNN_ARM64
/* Block by block: the decoder keeps its tables in the registers that a fused loop would need for its own. */
static const znn_paths neon = {
    .count = znn_count_scalar,
    .narrow_encode = znn_narrow_encode_neon,
    .narrow_decode = znn_narrow_decode_neon,
    .escapes_read = znn_narrow_escapes_read_neon,
    .knows = znn_fields_known_neon,
    .split = znn_fields_split_neon,
    .join = znn_fields_join_neon,
};
#endif

#if ZNN_X86
static const znn_paths avx2 = {
    .count = znn_count_avx2,
    .narrow_encode = znn_narrow_encode_avx2,
    .narrow_decode = znn_narrow_decode_avx2,
    .escapes_read = znn_narrow_escapes_read_avx2,
    .knows = znn_fields_known_avx2,
    .split = znn_fields_split_avx2,
    .join = znn_fields_join_avx2,
    .fused = znn_fused_decode_avx2,
};

static const znn_paths avx512 = {
    .count = znn_count_avx512,
    .narrow_encode = znn_narrow_encode_avx512,
    .narrow_decode = znn_narrow_decode_avx512,
    .escapes_read = znn_narrow_escapes_read_avx512,
    .knows = znn_fields_known_avx512,
    .split = znn_fields_split_avx512,
    .split_contexts = znn_fields_split_contexts_avx512,
    .join = znn_fields_join_avx512,
    .join_bytes = znn_fields_join_bytes_avx512,
    .fused = znn_fused_decode_avx512,
};
#endif

const znn_paths *znn_paths_chosen(void)
{
    switch (znn_cpu_isa()) {
#if ZNN_ARM64
    case ZNN_ISA_NEON: return &neon;
#endif
#if ZNN_X86
    case ZNN_ISA_AVX2: return &avx2;
    case ZNN_ISA_AVX512: return &avx512;
#endif
    default: return &scalar;
    }
}
