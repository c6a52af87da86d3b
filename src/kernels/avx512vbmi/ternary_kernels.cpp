// Owns the integer kernels for AVX-512 with VNNI and VBMI.
#include "kernels/ternary_kernels.h"

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/instruction_sets.h"

namespace tritllm::kernels::avx512vbmi {
namespace {

#include "kernels/ternary_kernels_simd.h"
#include "kernels/ternary_quantize_x86.h"

#include "kernels/avx512/vector.h"
// After the vector of floats that it extends.
#include "kernels/avx512/ternary_vector.h"

}  // namespace

const TernaryKernels& ternary_kernels() noexcept {
  static const TernaryKernels kTable =
      TernaryOperations<Vector>::table("avx512vbmi", avx2::ternary_kernels().products[static_cast<size_t>(TileFormat::kTriples)]);
  return kTable;
}

}  // namespace tritllm::kernels::avx512vbmi
