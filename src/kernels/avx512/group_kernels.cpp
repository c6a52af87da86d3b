// Owns the group operations for AVX-512 (F, BW, DQ, VL): sixteen groups at a time. Only add_product()
// uses FMA, which rounds differently.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "codec/geometry.h"
#include "codec/group_kernels.h"

namespace tritllm::kernels::avx512 {
namespace {

#include "kernels/avx512/vector.h"
#include "kernels/group_kernels_simd.h"

struct Vector : FloatVector {
  using Int = __m512i;
  using Mask = __mmask16;

  static Float root(Float a) noexcept { return _mm512_sqrt_ps(a); }
  static Float absolute(Float a) noexcept { return _mm512_abs_ps(a); }
  static Mask greater(Float a, Float b) noexcept { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  static Mask not_less(Float a, Float b) noexcept { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static Mask both(Mask a, Mask b) noexcept { return a & b; }
  static Mask without(Mask a, Mask b) noexcept { return static_cast<Mask>(a & ~b); }
  static bool any(Mask a) noexcept { return a != 0; }
  static Float and_mask(Mask mask, Float x) noexcept { return _mm512_maskz_mov_ps(mask, x); }
  static Float select(Mask mask, Float yes, Float no) noexcept { return _mm512_mask_blend_ps(mask, no, yes); }

  static Int set_int(int x) noexcept { return _mm512_set1_epi32(x); }
  static Int add_int(Int a, Int b) noexcept { return _mm512_add_epi32(a, b); }
  static Int to_int(Float x) noexcept { return _mm512_cvtps_epi32(x); }
  static Int select_int(Mask mask, Int yes, Int no) noexcept { return _mm512_mask_blend_epi32(mask, no, yes); }
  static Int combine4(const Int* x) noexcept {
    const Int low_byte = _mm512_set1_epi32(0xff);
    const Int low = _mm512_or_si512(_mm512_and_si512(x[0], low_byte), _mm512_slli_epi32(_mm512_and_si512(x[1], low_byte), 8));
    const Int high = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(x[2], low_byte), 16), _mm512_slli_epi32(x[3], 24));
    return _mm512_or_si512(low, high);
  }
  static void store_low_bytes(uint8_t* p, Int x) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
  }

  // Row r of the 16 × 16 block becomes lane r of every out[c].
  static void load_groups(const float* weights, Float* out) noexcept {
    for (size_t quarter = 0; quarter < 4; ++quarter) {
      // 128-bit part b of row[r] is columns 4·quarter.. of group 4·b + r, so that transposing inside the parts is enough.
      Float row[4];
      for (size_t r = 0; r < 4; ++r) {
        const float* const p = weights + r * 16 + quarter * 4;
        row[r] = _mm512_castps128_ps512(_mm_loadu_ps(p));
        row[r] = _mm512_insertf32x4(row[r], _mm_loadu_ps(p + 4 * 16), 1);
        row[r] = _mm512_insertf32x4(row[r], _mm_loadu_ps(p + 8 * 16), 2);
        row[r] = _mm512_insertf32x4(row[r], _mm_loadu_ps(p + 12 * 16), 3);
      }
      const Float low01 = _mm512_unpacklo_ps(row[0], row[1]), high01 = _mm512_unpackhi_ps(row[0], row[1]);
      const Float low23 = _mm512_unpacklo_ps(row[2], row[3]), high23 = _mm512_unpackhi_ps(row[2], row[3]);
      out[quarter * 4 + 0] = _mm512_shuffle_ps(low01, low23, _MM_SHUFFLE(1, 0, 1, 0));
      out[quarter * 4 + 1] = _mm512_shuffle_ps(low01, low23, _MM_SHUFFLE(3, 2, 3, 2));
      out[quarter * 4 + 2] = _mm512_shuffle_ps(high01, high23, _MM_SHUFFLE(1, 0, 1, 0));
      out[quarter * 4 + 3] = _mm512_shuffle_ps(high01, high23, _MM_SHUFFLE(3, 2, 3, 2));
    }
  }

  // bytes[k] holds codes 4k..4k+3 of lane g in its 32 bits; row g of the result is the 16 codes of group g.
  static void store_codes(int8_t* p, const Int* bytes) noexcept {
    const Int low01 = _mm512_unpacklo_epi32(bytes[0], bytes[1]), high01 = _mm512_unpackhi_epi32(bytes[0], bytes[1]);
    const Int low23 = _mm512_unpacklo_epi32(bytes[2], bytes[3]), high23 = _mm512_unpackhi_epi32(bytes[2], bytes[3]);
    const Int rows[4] = {_mm512_unpacklo_epi64(low01, low23), _mm512_unpackhi_epi64(low01, low23),
                         _mm512_unpacklo_epi64(high01, high23), _mm512_unpackhi_epi64(high01, high23)};
    for (size_t r = 0; r < 4; ++r) {
      _mm_store_si128(reinterpret_cast<__m128i*>(p + r * 16), _mm512_extracti32x4_epi32(rows[r], 0));
      _mm_store_si128(reinterpret_cast<__m128i*>(p + (r + 4) * 16), _mm512_extracti32x4_epi32(rows[r], 1));
      _mm_store_si128(reinterpret_cast<__m128i*>(p + (r + 8) * 16), _mm512_extracti32x4_epi32(rows[r], 2));
      _mm_store_si128(reinterpret_cast<__m128i*>(p + (r + 12) * 16), _mm512_extracti32x4_epi32(rows[r], 3));
    }
  }
};

constexpr codec::GroupKernels kTable = GroupOperations<Vector>::table();

}  // namespace

const codec::GroupKernels& group_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::avx512
