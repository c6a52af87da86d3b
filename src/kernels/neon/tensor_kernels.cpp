// Owns the forward pass's inner loops for NEON: four floats at a time.
#include "kernels/tensor_kernels.h"

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace tritllm::kernels::neon {
namespace {

#include "kernels/tensor_kernels_simd.h"
// After the operations it uses.
#include "kernels/attention_simd.h"
#include "kernels/neon/vector.h"

struct Vector : FloatVector {
  static constexpr size_t kTileTokens = 6;                         // 4 × 6 sums, 6 inputs and a weight: 31 of 32 registers
  static constexpr size_t kAccumulators = 24, kAttentionRows = 6;  // 6 × 4 sums of a tile, its 4 vectors and a coefficient

  static Float load_half(const uint16_t* p) noexcept { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static Float load_bfloat16(const uint16_t* p) noexcept { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
  static Float load_float8(const uint8_t* p) noexcept {
    const uint16x4_t shifted = vreinterpret_u16_s16(vshl_n_s16(widened(p), 7));
    return multiply(vcvt_f32_f16(vreinterpret_f16_u16(vbic_u16(shifted, vdup_n_u16(0x4000)))), set(0x1p8f));
  }
  static Float load_codes(const int8_t* p) noexcept { return vcvtq_f32_s32(vmovl_s16(widened(p))); }
  // Four bytes with their signs.
  static int16x4_t widened(const void* p) noexcept {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof(word));
    return vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(word))));
  }
  static float sum(Float x) noexcept { return vaddvq_f32(x); }
  static float largest(Float x) noexcept { return vmaxvq_f32(x); }

  // x·2^power for a whole power in [−126, 127]; 128 comes out right as well, by way of 2^127·2.
  static Float scale_by_power(Float x, Float power) noexcept {
    const int32x4_t half = vcvtnq_s32_f32(vminq_f32(power, set(127.0f)));
    const Float scale = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, vdupq_n_s32(127)), 23));
    const Float rest = vbslq_f32(vcgtq_f32(power, set(127.0f)), set(2.0f), set(1.0f));
    return multiply(multiply(x, scale), rest);
  }
  // The same for a result that is known to be a normal number; x may be NaN.
  static Float shift_exponent(Float x, Float power) noexcept {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), vshlq_n_s32(vcvtnq_s32_f32(power), 23)));
  }
  static Float zero_below(Float x, float limit, Float value) noexcept {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value), vcltq_f32(x, set(limit))));
  }
  static Float exp(Float x) noexcept { return exponential<Vector>(x); }
};

constexpr TensorKernels kTable = TensorOperations<Vector>::table();

}  // namespace

const TensorKernels& tensor_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::neon
