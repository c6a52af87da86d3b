// Owns the forward pass's inner loops for AVX-512 (F, BW, DQ, VL): sixteen floats at a time.
#include "kernels/tensor_kernels.h"

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace tritllm::kernels::avx512 {
namespace {

#include "kernels/tensor_kernels_simd.h"
// After the operations it uses.
#include "kernels/attention_simd.h"
#include "kernels/avx512/vector.h"

struct Vector : FloatVector {
  static constexpr size_t kTileTokens = 6;                          // 4 × 6 sums, 6 inputs and a weight: 31 of 32 registers
  static constexpr size_t kAccumulators = 24, kAttentionRows = 12;  // the same for attention

  static Float load_half(const uint16_t* p) noexcept {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Float load_bfloat16(const uint16_t* p) noexcept {
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  }
  static Float load_float8(const uint8_t* p) noexcept {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i halves = _mm256_andnot_si256(_mm256_set1_epi16(0x4000), _mm256_slli_epi16(wide, 7));
    return multiply(_mm512_cvtph_ps(halves), set(0x1p8f));
  }
  static Float load_codes(const int8_t* p) noexcept {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static float sum(Float x) noexcept { return _mm512_reduce_add_ps(x); }
  static float largest(Float x) noexcept { return _mm512_reduce_max_ps(x); }
  static Float scale_by_power(Float x, Float power) noexcept { return _mm512_scalef_ps(x, power); }
  static Float shift_exponent(Float x, Float power) noexcept { return _mm512_scalef_ps(x, power); }
  static Float zero_below(Float x, float limit, Float value) noexcept {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, set(limit), _CMP_NLT_UQ), value);
  }
  static Float exp(Float x) noexcept { return exponential<Vector>(x); }
};

constexpr TensorKernels kTable = TensorOperations<Vector>::table();

}  // namespace

const TensorKernels& tensor_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::avx512
