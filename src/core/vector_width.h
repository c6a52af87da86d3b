// Owns the mark of functions whose plain loops are worth compiling for each width of vectors.
//
// Such a function is compiled several times, everything that it calls inlined, and the program takes the one that suits the machine
// when it starts. It is for integer loops, whose results do not depend on the width; the kernels of models have their own
// tables (src/kernels/kernel_table.h).
#pragma once

// The choice comes before the sanitizers have started, so their builds have one version.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define TRIT_FOR_EACH_VECTOR_WIDTH __attribute__((flatten, target_clones("default", "avx2", "arch=x86-64-v4")))
#else
#define TRIT_FOR_EACH_VECTOR_WIDTH
#endif
