// Owns the integer kernels for NEON with the dot product of ARMv8.2: four rows at a time, products by sdot.
#include "kernels/ternary_kernels.h"

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace tritllm::kernels::neon {
namespace {

#include "kernels/ternary_kernels_simd.h"

struct Vector {
  using Float = float32x4_t;
  using Codes = uint8x16_t;  // of row i: bytes 4·i to 4·i + 3
  using Scales = int32x4_t;
  static constexpr size_t kVectorRows = 4;
  static constexpr bool kUnsqueezes = false;

  static Float zero() noexcept { return vdupq_n_f32(0.0f); }
  static Float set(float x) noexcept { return vdupq_n_f32(x); }
  static Float load(const float* p) noexcept { return vld1q_f32(p); }
  static void store(float* p, Float x) noexcept { vst1q_f32(p, x); }
  static Float multiply(Float a, Float b) noexcept { return vmulq_f32(a, b); }
  static Float fma(Float a, Float b, Float c) noexcept { return vfmaq_f32(c, a, b); }

  static uint8x16_t and_bytes(uint8x16_t a, uint8_t mask) noexcept { return vandq_u8(a, vdupq_n_u8(mask)); }
  // Where the mask has ones, b, else a: one operation.
  static uint8x16_t merge(uint8x16_t a, uint8x16_t b, uint8_t mask) noexcept { return vbslq_u8(vdupq_n_u8(mask), b, a); }

  static void scales(const uint8_t* places, const ScaleTable& table, Scales (&out)[kTileGroups][4]) noexcept {
    const uint8x16_t nibbles = vld1q_u8(places);
    uint32_t word;
    __builtin_memcpy(&word, places + kEntryNibbleBytes, sizeof(word));
    const uint8x16_t plane = vreinterpretq_u8_u32(vdupq_n_u32(word));
    // entry_place() has four rows to a 32-bit lane, whose fifth bits are bit `lane` of the plane's bytes, and those of rows 4 to 7
    // and 12 to 15 four bits further: from there to bit 4.
    constexpr int8_t kShifts[16] = {4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1};
    const int8x16_t shifts = vld1q_s8(kShifts);
    const uint8x16_t first = merge(and_bytes(nibbles, 15), vshlq_u8(plane, shifts), 16),
                     second = merge(vshrq_n_u8(nibbles, 4), vshlq_u8(plane, vsubq_s8(shifts, vdupq_n_s8(4))), 16);
    widen(first, table, out[0][0], out[0][2], out[1][0], out[1][2]);
    widen(second, table, out[0][1], out[0][3], out[1][1], out[1][3]);
  }

  // The multiples of sixteen entries.
  static void widen(uint8x16_t entries, const ScaleTable& table, Scales& a, Scales& b, Scales& c, Scales& d) noexcept {
    const uint8x16_t low = vqtbl2q_u8(vld1q_u8_x2(table.low), entries), high = vqtbl2q_u8(vld1q_u8_x2(table.high), entries);
    const int16x8_t first = vreinterpretq_s16_u8(vzip1q_u8(low, high)), second = vreinterpretq_s16_u8(vzip2q_u8(low, high));
    a = vmovl_s16(vget_low_s16(first));
    b = vmovl_high_s16(first);
    c = vmovl_s16(vget_low_s16(second));
    d = vmovl_high_s16(second);
  }

  static void keep(Codes& codes) noexcept { asm("" : "+w"(codes)); }

  // A quarter of a tile is half of the 32 bytes that the layout gives 8 rows.
  template <TileFormat kFormat>
  static void codes(const uint8_t* block, size_t group, size_t quarter, Codes (&out)[4]) noexcept {
    if constexpr (format_depth(kFormat) == 1) {
      const uint8x16_t fields = vld1q_u8(block + group * 64 + quarter * 16);
      out[0] = and_bytes(fields, 3);
      out[1] = and_bytes(vshrq_n_u8(fields, 2), 3);
      out[2] = and_bytes(vshrq_n_u8(fields, 4), 3);
      out[3] = vshrq_n_u8(fields, 6);
      return;
    }
    for (size_t pair = 0; pair < 2; ++pair) {
      const uint8x16_t fields = vld1q_u8(block + (group * 2 + pair) * 64 + quarter * 16);
      out[2 * pair] = and_bytes(fields, 15);
      out[2 * pair + 1] = vshrq_n_u8(fields, 4);
    }
    if constexpr (format_depth(kFormat) == 2) return;
    const uint8x16_t plane = vld1q_u8(block + kFifthBitsOffset + group * 32 + quarter % 2 * 16);
    if (quarter < 2) {
      out[0] = merge(out[0], vshlq_n_u8(plane, 4), 16);
      out[1] = merge(out[1], vshlq_n_u8(plane, 3), 16);
      out[2] = merge(out[2], vshlq_n_u8(plane, 2), 16);
      out[3] = merge(out[3], vshlq_n_u8(plane, 1), 16);
    } else {
      out[0] = merge(out[0], plane, 16);
      out[1] = merge(out[1], vshrq_n_u8(plane, 1), 16);
      out[2] = merge(out[2], vshrq_n_u8(plane, 2), 16);
      out[3] = merge(out[3], vshrq_n_u8(plane, 3), 16);
    }
    if constexpr (format_depth(kFormat) == 3) return;
    const uint8x16_t top = vld1q_u8(block + kTopBitsOffset + group * 64 + quarter * 16);
    out[0] = merge(out[0], vshlq_n_u8(top, 5), 96);
    out[1] = merge(out[1], vshlq_n_u8(top, 3), 96);
    out[2] = merge(out[2], vshlq_n_u8(top, 1), 96);
    out[3] = merge(out[3], vshrq_n_u8(top, 1), 96);
  }

  // The largest field is 80, so that unsigned fields are signed bytes as they are.
  template <size_t kQuad>
  static int32x4_t add_products(int32x4_t sum, const Codes (&codes)[4], int8x16_t values) noexcept {
    return vdotq_laneq_s32(sum, vreinterpretq_s8_u8(codes[kQuad]), values, kQuad);
  }
  template <TileFormat kFormat>
  static Float dot(const Codes (&codes)[4], Scales scales, const ActivationGroup& input) noexcept {
    static_assert(2 * format_largest_code(kFormat) <= 127);
    const int8x16_t values = vld1q_s8(input.values);
    int32x4_t sum = vdupq_n_s32(input.offset);
    sum = add_products<0>(sum, codes, values);
    sum = add_products<1>(sum, codes, values);
    sum = add_products<2>(sum, codes, values);
    sum = add_products<3>(sum, codes, values);
    return vcvtq_f32_s32(vmulq_s32(sum, scales));
  }

  // Magnitudes compare as integers do.
  static uint32_t largest_magnitude(const float* x) noexcept {
    const auto magnitudes = [&](size_t i) { return vandq_u32(vreinterpretq_u32_f32(load(x + i)), vdupq_n_u32(0x7fffffffu)); };
    return vmaxvq_u32(vmaxq_u32(vmaxq_u32(magnitudes(0), magnitudes(4)), vmaxq_u32(magnitudes(8), magnitudes(12))));
  }

  static float heavier_half(const float* x) noexcept {
    const auto magnitudes = [x](size_t first) { return vabsq_f32(load(x + first)); };
    const Float columns = vaddq_f32(vaddq_f32(magnitudes(0), magnitudes(4)), vaddq_f32(magnitudes(8), magnitudes(12)));
    return vmaxv_f32(vpadd_f32(vget_low_f32(columns), vget_high_f32(columns)));
  }

  static int16x8_t rounded(const float* x, float inverse) noexcept {
    const int32x4_t low = vcvtnq_s32_f32(multiply(load(x), set(inverse)));
    const int32x4_t high = vcvtnq_s32_f32(multiply(load(x + 4), set(inverse)));
    return vcombine_s16(vmovn_s32(low), vmovn_s32(high));
  }
  static void round(const float* x, float inverse, TileFormat format, ActivationGroup& group) noexcept {
    const int8x16_t values = vcombine_s8(vmovn_s16(rounded(x, inverse)), vmovn_s16(rounded(x + 8, inverse)));
    vst1q_s8(group.values, values);
    // 16-bit sums of two neighbours: of every 4 columns the first two and the last two.
    const int16x8_t pairs = vpaddlq_s8(values);
    const int16x4_t two = vadd_s16(vget_low_s16(pairs), vget_high_s16(pairs));
    const auto centre = static_cast<int16_t>(-format_largest_code(format));
    const int16x4_t offsets = vmul_n_s16(vadd_s16(two, vext_s16(two, two, 2)), centre);
    const int32_t both = vget_lane_s32(vreinterpret_s32_s16(offsets), 0);
    __builtin_memcpy(group.offsets, &both, sizeof(both));
    group.offset = centre * vaddlvq_s8(values);
  }
};

constexpr TernaryKernels kTable = TernaryOperations<Vector>::table("neon");

}  // namespace

const TernaryKernels& ternary_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::neon
