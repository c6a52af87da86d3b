// Owns the forward pass's inner loops for AVX2 with FMA and F16C: eight floats at a time.
#include "kernels/tensor_kernels.h"

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace tritllm::kernels::avx2 {
namespace {

#include "kernels/tensor_kernels_simd.h"
// After the operations it uses.
#include "kernels/attention_simd.h"
#include "kernels/avx2/vector.h"

struct Vector : FloatVector {
  static constexpr size_t kTileTokens = 3;                         // 4 × 3 sums, 3 inputs and a weight: all 16 registers
  static constexpr size_t kAccumulators = 12, kAttentionRows = 6;  // the same for attention

  static Float load_half(const uint16_t* p) noexcept {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Float load_bfloat16(const uint16_t* p) noexcept {
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  }
  static Float load_float8(const uint8_t* p) noexcept {
    const __m128i wide = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    const __m128i halves = _mm_andnot_si128(_mm_set1_epi16(0x4000), _mm_slli_epi16(wide, 7));
    return multiply(_mm256_cvtph_ps(halves), set(0x1p8f));
  }
  static Float load_codes(const int8_t* p) noexcept {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }

  static float sum(Float x) noexcept {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  static float largest(Float x) noexcept {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  // x·2^power for a whole power in [−126, 127]; 128 comes out right as well, by way of 2^127·2.
  static Float scale_by_power(Float x, Float power) noexcept {
    const __m256i half = _mm256_cvtps_epi32(_mm256_min_ps(power, set(127.0f)));
    const Float scale = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, _mm256_set1_epi32(127)), 23));
    const Float rest = _mm256_blendv_ps(set(1.0f), set(2.0f), _mm256_cmp_ps(power, set(127.0f), _CMP_GT_OQ));
    return multiply(multiply(x, scale), rest);
  }
  // The same for a result that is known to be a normal number; x may be NaN.
  static Float shift_exponent(Float x, Float power) noexcept {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(_mm256_cvtps_epi32(power), 23)));
  }
  static Float zero_below(Float x, float limit, Float value) noexcept {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, set(limit), _CMP_LT_OQ), value);
  }
  static Float exp(Float x) noexcept { return exponential<Vector>(x); }
};

constexpr TensorKernels kTable = TensorOperations<Vector>::table();

}  // namespace

const TensorKernels& tensor_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::avx2
