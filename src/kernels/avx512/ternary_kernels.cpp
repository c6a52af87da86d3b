// Owns the integer kernels for AVX-512 with VNNI.
#include "kernels/ternary_kernels.h"

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace tritllm::kernels::avx512 {
namespace {

#include "kernels/ternary_kernels_simd.h"
#include "kernels/ternary_pairs_simd.h"
#include "kernels/ternary_quantize_x86.h"

#include "kernels/avx2/pair_vector.h"
#include "kernels/avx512/ternary_vector.h"

constexpr TernaryKernels kTable = TernaryOperations<Vector>::table("avx512", PairOperations<PairVector>::product());

}  // namespace

const TernaryKernels& ternary_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::avx512
