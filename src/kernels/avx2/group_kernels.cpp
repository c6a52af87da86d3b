// Owns the group operations for AVX2: eight groups at a time. Only add_product() uses FMA, which rounds differently.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "codec/geometry.h"
#include "codec/group_kernels.h"

namespace tritllm::kernels::avx2 {
namespace {

#include "kernels/avx2/vector.h"
#include "kernels/group_kernels_simd.h"

struct Vector : FloatVector {
  using Int = __m256i;
  using Mask = __m256;

  static Float root(Float a) noexcept { return _mm256_sqrt_ps(a); }
  static Float absolute(Float a) noexcept { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static Mask greater(Float a, Float b) noexcept { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
  static Mask not_less(Float a, Float b) noexcept { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
  static Mask both(Mask a, Mask b) noexcept { return _mm256_and_ps(a, b); }
  static Mask without(Mask a, Mask b) noexcept { return _mm256_andnot_ps(b, a); }
  static bool any(Mask a) noexcept { return _mm256_movemask_ps(a) != 0; }
  static Float and_mask(Mask mask, Float x) noexcept { return _mm256_and_ps(mask, x); }
  static Float select(Mask mask, Float yes, Float no) noexcept { return _mm256_blendv_ps(no, yes, mask); }

  static Int set_int(int x) noexcept { return _mm256_set1_epi32(x); }
  static Int add_int(Int a, Int b) noexcept { return _mm256_add_epi32(a, b); }
  static Int to_int(Float x) noexcept { return _mm256_cvtps_epi32(x); }
  static Int select_int(Mask mask, Int yes, Int no) noexcept {
    return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(no), _mm256_castsi256_ps(yes), mask));
  }
  static Int combine4(const Int* x) noexcept {
    const Int low_byte = _mm256_set1_epi32(0xff);
    const Int low = _mm256_or_si256(_mm256_and_si256(x[0], low_byte), _mm256_slli_epi32(_mm256_and_si256(x[1], low_byte), 8));
    const Int high = _mm256_or_si256(_mm256_slli_epi32(_mm256_and_si256(x[2], low_byte), 16), _mm256_slli_epi32(x[3], 24));
    return _mm256_or_si256(low, high);
  }
  static void store_low_bytes(uint8_t* p, Int x) noexcept {
    alignas(32) int32_t lanes[kLanes];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), x);
    for (size_t i = 0; i < kLanes; ++i) p[i] = static_cast<uint8_t>(lanes[i]);
  }

  // Row r of the 8 × 8 block that starts at p, rows 16 floats apart, becomes lane r of every out[c].
  static void transpose8(const float* p, Float* out) noexcept {
    Float pair[8], quad[8];
    for (size_t half = 0; half < 2; ++half) {
      // Lanes 0..3 come from rows 0..3, lanes 4..7 from rows 4..7.
      Float row[4];
      for (size_t r = 0; r < 4; ++r) {
        row[r] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + r * 16 + half * 4)),
                                      _mm_loadu_ps(p + (r + 4) * 16 + half * 4), 1);
      }
      pair[0] = _mm256_unpacklo_ps(row[0], row[1]);
      pair[1] = _mm256_unpackhi_ps(row[0], row[1]);
      pair[2] = _mm256_unpacklo_ps(row[2], row[3]);
      pair[3] = _mm256_unpackhi_ps(row[2], row[3]);
      quad[0] = _mm256_shuffle_ps(pair[0], pair[2], _MM_SHUFFLE(1, 0, 1, 0));
      quad[1] = _mm256_shuffle_ps(pair[0], pair[2], _MM_SHUFFLE(3, 2, 3, 2));
      quad[2] = _mm256_shuffle_ps(pair[1], pair[3], _MM_SHUFFLE(1, 0, 1, 0));
      quad[3] = _mm256_shuffle_ps(pair[1], pair[3], _MM_SHUFFLE(3, 2, 3, 2));
      for (size_t c = 0; c < 4; ++c) out[half * 4 + c] = quad[c];
    }
  }
  static void load_groups(const float* weights, Float* out) noexcept {
    transpose8(weights, out);
    transpose8(weights + 8, out + 8);
  }

  // bytes[k] holds codes 4k..4k+3 of lane g in its 32 bits; row g of the result is the 16 codes of group g.
  static void store_codes(int8_t* p, const Int* bytes) noexcept {
    const Int low01 = _mm256_unpacklo_epi32(bytes[0], bytes[1]), high01 = _mm256_unpackhi_epi32(bytes[0], bytes[1]);
    const Int low23 = _mm256_unpacklo_epi32(bytes[2], bytes[3]), high23 = _mm256_unpackhi_epi32(bytes[2], bytes[3]);
    const Int rows[4] = {_mm256_unpacklo_epi64(low01, low23), _mm256_unpackhi_epi64(low01, low23),
                         _mm256_unpacklo_epi64(high01, high23), _mm256_unpackhi_epi64(high01, high23)};
    for (size_t r = 0; r < 4; ++r) {
      _mm_store_si128(reinterpret_cast<__m128i*>(p + r * 16), _mm256_castsi256_si128(rows[r]));
      _mm_store_si128(reinterpret_cast<__m128i*>(p + (r + 4) * 16), _mm256_extracti128_si256(rows[r], 1));
    }
  }
};

constexpr codec::GroupKernels kTable = GroupOperations<Vector>::table();

}  // namespace

const codec::GroupKernels& group_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::avx2
