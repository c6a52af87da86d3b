// Owns the group operations for NEON: four groups at a time. Does not use FMA, which would round differently.
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "codec/geometry.h"
#include "codec/group_kernels.h"

namespace tritllm::kernels::neon {
namespace {

#include "kernels/group_kernels_simd.h"
#include "kernels/neon/vector.h"

struct Vector : FloatVector {
  using Int = int32x4_t;
  using Mask = uint32x4_t;

  // As the specification has them: the second operand where one of them is NaN.
  static Float min(Float a, Float b) noexcept { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static Float max(Float a, Float b) noexcept { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static Float root(Float a) noexcept { return vsqrtq_f32(a); }
  static Float absolute(Float a) noexcept { return vabsq_f32(a); }
  static Mask greater(Float a, Float b) noexcept { return vcgtq_f32(a, b); }
  static Mask not_less(Float a, Float b) noexcept { return vcgeq_f32(a, b); }
  static Mask both(Mask a, Mask b) noexcept { return vandq_u32(a, b); }
  static Mask without(Mask a, Mask b) noexcept { return vbicq_u32(a, b); }
  static bool any(Mask a) noexcept { return vmaxvq_u32(a) != 0; }
  static Float and_mask(Mask mask, Float x) noexcept { return vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(x))); }
  static Float select(Mask mask, Float yes, Float no) noexcept { return vbslq_f32(mask, yes, no); }

  static Int set_int(int x) noexcept { return vdupq_n_s32(x); }
  static Int add_int(Int a, Int b) noexcept { return vaddq_s32(a, b); }
  static Int to_int(Float x) noexcept { return vcvtnq_s32_f32(x); }
  static Int select_int(Mask mask, Int yes, Int no) noexcept { return vbslq_s32(mask, yes, no); }
  // Each shift keeps the bytes below it.
  static Int combine4(const Int* x) noexcept { return vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(x[0], x[1], 8), x[2], 16), x[3], 24); }
  static void store_low_bytes(uint8_t* p, Int x) noexcept {
    const uint16x4_t halves = vmovn_u32(vreinterpretq_u32_s32(x));
    const uint32_t bytes = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(halves, halves))), 0);
    __builtin_memcpy(p, &bytes, sizeof(bytes));
  }

  // Row r of the 4 × 4 block becomes lane r of every out[c].
  static void transpose4(const uint32x4_t* rows, uint32x4_t* out) noexcept {
    const uint32x4x2_t first = vtrnq_u32(rows[0], rows[1]), second = vtrnq_u32(rows[2], rows[3]);
    for (size_t i = 0; i < 2; ++i) {
      out[i] = vcombine_u32(vget_low_u32(first.val[i]), vget_low_u32(second.val[i]));
      out[i + 2] = vcombine_u32(vget_high_u32(first.val[i]), vget_high_u32(second.val[i]));
    }
  }
  static void load_groups(const float* weights, Float* out) noexcept {
    for (size_t quarter = 0; quarter < 4; ++quarter) {
      uint32x4_t rows[4], columns[4];
      for (size_t r = 0; r < 4; ++r) rows[r] = vreinterpretq_u32_f32(vld1q_f32(weights + r * 16 + quarter * 4));
      transpose4(rows, columns);
      for (size_t c = 0; c < 4; ++c) out[quarter * 4 + c] = vreinterpretq_f32_u32(columns[c]);
    }
  }

  // bytes[k] holds codes 4k..4k+3 of lane g in its 32 bits; row g of the result is the 16 codes of group g.
  static void store_codes(int8_t* p, const Int* bytes) noexcept {
    uint32x4_t rows[4], groups[4];
    for (size_t k = 0; k < 4; ++k) rows[k] = vreinterpretq_u32_s32(bytes[k]);
    transpose4(rows, groups);
    for (size_t g = 0; g < 4; ++g) vst1q_s8(p + g * 16, vreinterpretq_s8_u32(groups[g]));
  }
};

constexpr codec::GroupKernels kTable = GroupOperations<Vector>::table();

}  // namespace

const codec::GroupKernels& group_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::neon
