# Files named *_avx512.c, *_avx2.c and *_neon.c are compiled with their
# instruction set's flags where the processor's family has it, and left out
# elsewhere. What runs is chosen in the process, so one build serves all.

set(ZNN_FLAGS_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mavx512vbmi2 -mbmi2 -mpopcnt)
set(ZNN_FLAGS_avx2 -mavx2 -mbmi -mbmi2 -mpopcnt)
set(ZNN_FLAGS_neon "")

include(CheckCSourceCompiles)
check_c_source_compiles("#if !defined(__x86_64__)\n#error\n#endif\nint main(void){return 0;}" ZNN_TARGET_X86_64)
check_c_source_compiles("#if !defined(__aarch64__)\n#error\n#endif\nint main(void){return 0;}" ZNN_TARGET_AARCH64)

function(znn_select_instruction_sets list)
    set(sources ${${list}})
    foreach(isa avx512 avx2 neon)
        set(files ${sources})
        list(FILTER files INCLUDE REGEX "_${isa}\\.c$")
        if((isa STREQUAL "neon" AND ZNN_TARGET_AARCH64) OR (NOT isa STREQUAL "neon" AND ZNN_TARGET_X86_64))
            set_source_files_properties(${files} PROPERTIES COMPILE_OPTIONS "${ZNN_FLAGS_${isa}}")
        else()
            list(FILTER sources EXCLUDE REGEX "_${isa}\\.c$")
        endif()
    endforeach()
    set(${list} ${sources} PARENT_SCOPE)
endfunction()
