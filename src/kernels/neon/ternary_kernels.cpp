// Owns the integer kernels for NEON with the dot product of ARMv8.2. Depth 1: sums of three products looked up for sixteen rows at
// a time. The other depths: four rows at a time, products by sdot.
#include "kernels/ternary_kernels.h"

#include <arm_neon.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace tritllm::kernels::neon {
namespace {

#include "kernels/neon/vector.h"
#include "kernels/ternary_kernels_simd.h"
#include "kernels/ternary_triples_simd.h"

// What both descriptions of vectors share.
struct Common : FloatVector {
  using Scales = int32x4_t;
  static constexpr size_t kVectorRows = 4;

  static uint8x16_t and_bytes(uint8x16_t a, uint8_t mask) noexcept { return vandq_u8(a, vdupq_n_u8(mask)); }
  // Where the mask has ones, b, else a: one operation.
  static uint8x16_t merge(uint8x16_t a, uint8x16_t b, uint8_t mask) noexcept { return vbslq_u8(vdupq_n_u8(mask), b, a); }

  static void scales(const uint8_t* places, const ScaleTable& table, Scales (&out)[kTileGroups][4]) noexcept {
    const uint8x16_t nibbles = vld1q_u8(places);
    uint32_t word;
    __builtin_memcpy(&word, places + kScaleCodeNibbleBytes, sizeof(word));
    const uint8x16_t plane = vreinterpretq_u8_u32(vdupq_n_u32(word));
    // scale_code_place() has four rows to a 32-bit lane, whose fifth bits are bit `lane` of the plane's bytes, and those of rows 4
    // to 7 and 12 to 15 four bits further: from there to bit 4.
    constexpr int8_t kShifts[16] = {4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1};
    const int8x16_t shifts = vld1q_s8(kShifts);
    const uint8x16_t first = merge(and_bytes(nibbles, 15), vshlq_u8(plane, shifts), 16),
                     second = merge(vshrq_n_u8(nibbles, 4), vshlq_u8(plane, vsubq_s8(shifts, vdupq_n_s8(4))), 16);
    widen(first, table, out[0][0], out[0][2], out[1][0], out[1][2]);
    widen(second, table, out[0][1], out[0][3], out[1][1], out[1][3]);
  }

  // The multiples of sixteen scale_codes.
  static void widen(uint8x16_t scale_codes, const ScaleTable& table, Scales& a, Scales& b, Scales& c, Scales& d) noexcept {
    const uint8x16_t low = vqtbl2q_u8(vld1q_u8_x2(table.low), scale_codes), high = vqtbl2q_u8(vld1q_u8_x2(table.high), scale_codes);
    const int16x8_t first = vreinterpretq_s16_u8(vzip1q_u8(low, high)), second = vreinterpretq_s16_u8(vzip2q_u8(low, high));
    a = vmovl_s16(vget_low_s16(first));
    b = vmovl_high_s16(first);
    c = vmovl_s16(vget_low_s16(second));
    d = vmovl_high_s16(second);
  }

  // Of columns 0 to 3 of every 4, the magnitudes added.
  static Float sums_of_columns(const float* x) noexcept {
    const auto magnitudes = [x](size_t first) { return vabsq_f32(load(x + first)); };
    return vaddq_f32(vaddq_f32(magnitudes(0), magnitudes(4)), vaddq_f32(magnitudes(8), magnitudes(12)));
  }

  // Eight values x[i]·inverse, to the nearest even.
  static int16x8_t rounded(const float* x, float inverse) noexcept {
    const int32x4_t low = vcvtnq_s32_f32(multiply(load(x), set(inverse)));
    const int32x4_t high = vcvtnq_s32_f32(multiply(load(x + 4), set(inverse)));
    return vcombine_s16(vmovn_s32(low), vmovn_s32(high));
  }
};

struct Vector : Common {
  using Codes = uint8x16_t;  // of row i: bytes 4·i to 4·i + 3
  static constexpr bool kUnsqueezes = false;

  static void keep(Codes& codes) noexcept { asm("" : "+w"(codes)); }

  // A quarter of a tile is half of the 32 bytes that the layout gives 8 rows.
  template <TileFormat kFormat>
  static void codes(const uint8_t* block, size_t group, size_t quarter, Codes (&out)[4]) noexcept {
    for (size_t pair = 0; pair < 2; ++pair) {
      const uint8x16_t fields = vld1q_u8(block + (group * 2 + pair) * 64 + quarter * 16);
      out[2 * pair] = and_bytes(fields, 15);
      out[2 * pair + 1] = vshrq_n_u8(fields, 4);
    }
    if constexpr (format_depth(kFormat) == 3) {
      const uint8x16_t plane = vld1q_u8(block + kFifthBitsOffset + group * 32 + quarter % 2 * 16);
      for (size_t quad = 0; quad < 4; ++quad) out[quad] = merge(out[quad], moved_to_fifth(plane, quad + 4 * (quarter / 2)), 16);
    }
    if constexpr (format_depth(kFormat) == 4) add_joint_parts(block, group, quarter, out);
  }

  // With bit `place` of each byte at bit 4.
  static uint8x16_t moved_to_fifth(uint8x16_t plane, size_t place) noexcept {
    return vshlq_u8(plane, vdupq_n_s8(static_cast<int8_t>(4 - static_cast<int>(place))));
  }

  static void add_joint_parts(const uint8_t* block, size_t group, size_t quarter, Codes (&out)[4]) noexcept {
    const uint8x16_t numbers = vld1q_u8(block + kJointOffset + group * 64 + quarter * 16);
    const uint8x16_t plane = vld1q_u8(block + kJointFifthBitsOffset + quarter % 2 * 16);
    for (size_t pair = 0; pair < 2; ++pair) {
      uint8x16_t &first = out[2 * pair], &second = out[2 * pair + 1];
      const uint8x16_t number = pair == 0 ? and_bytes(numbers, 15) : vshrq_n_u8(numbers, 4);
      const uint8x16_t sum = vaddq_u8(first, vqtbl1q_u8(vld1q_u8(kJointFirst.data()), number));
      first = vminq_u8(sum, vdupq_n_u8(kLargestJointField));
      const uint8x16_t rest = vorrq_u8(vqtbl1q_u8(vld1q_u8(kJointSecond.data()), number), vshlq_n_u8(vsubq_u8(sum, first), 5));
      second = vorrq_u8(merge(second, moved_to_fifth(plane, pair + 2 * group + 4 * (quarter / 2)), 16), rest);
    }
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
    const Float columns = sums_of_columns(x);
    return vmaxv_f32(vpadd_f32(vget_low_f32(columns), vget_high_f32(columns)));
  }

  template <TileFormat kFormat>
  static void round(const float* x, float inverse, ActivationGroup& group) noexcept {
    const int8x16_t values = vcombine_s8(vmovn_s16(rounded(x, inverse)), vmovn_s16(rounded(x + 8, inverse)));
    vst1q_s8(group.values, values);
    // 16-bit sums of two neighbours: of every 4 columns the first two and the last two.
    const int16x8_t pairs = vpaddlq_s8(values);
    const int16x4_t two = vadd_s16(vget_low_s16(pairs), vget_high_s16(pairs));
    const auto centre = static_cast<int16_t>(-format_largest_code(kFormat));
    const int16x4_t offsets = vmul_n_s16(vadd_s16(two, vext_s16(two, two, 2)), centre);
    const int32_t both = vget_lane_s32(vreinterpret_s32_s16(offsets), 0);
    __builtin_memcpy(group.offsets, &both, sizeof(both));
    group.offset = centre * vaddlvq_s8(values);
  }
};

struct TripleVector : Common {
  struct Bytes {
    int8x16_t groups[kTileGroups];
  };
  struct Multiples {
    Scales rows[kTileGroups][4];
  };

  template <typename Body>
  static Bytes of_each(Body&& body) noexcept {
    return {{body(0), body(1)}};
  }
  static Bytes bytes(const void* p) noexcept {
    return of_each([p](size_t group) { return vld1q_s8(static_cast<const int8_t*>(p) + group * 16); });
  }
  static Bytes add(const Bytes& a, const Bytes& b) noexcept {
    return of_each([&](size_t group) { return vaddq_s8(a.groups[group], b.groups[group]); });
  }
  static Bytes low_fields(const Bytes& a) noexcept {
    return of_each([&](size_t group) { return vandq_s8(a.groups[group], vdupq_n_s8(15)); });
  }
  static Bytes high_fields(const Bytes& a) noexcept {
    return of_each([&](size_t group) { return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(a.groups[group]), 4)); });
  }
  static Bytes last_fields(const Bytes& a) noexcept {
    return of_each([&](size_t group) { return vandq_s8(a.groups[group], vdupq_n_s8(3)); });
  }
  static Bytes look_up(const Bytes& table, const Bytes& fields) noexcept {
    return of_each([&](size_t group) { return vqtbl1q_s8(table.groups[group], vreinterpretq_u8_s8(fields.groups[group])); });
  }
  static Bytes negate(const Bytes& a, const Bytes& signs) noexcept {
    return of_each([&](size_t group) {
      const int8x16_t mask = vshrq_n_s8(signs.groups[group], 7);
      return vsubq_s8(veorq_s8(a.groups[group], mask), mask);
    });
  }
  static void keep(Bytes& bytes) noexcept { asm("" : "+w"(bytes.groups[0]), "+w"(bytes.groups[1])); }

  // triple_scale_code_place() has rows 0 to 3 and 8 to 11 in the first 16 places, the others in the second, groups in turn.
  static void multiples(const Bytes& scale_codes, const Bytes& fifth, const ScaleTable& table, Multiples& out) noexcept {
    for (size_t part = 0; part < 2; ++part) {
      const uint8x16_t upper = vshrq_n_u8(vreinterpretq_u8_s8(fifth.groups[part]), 3);
      const uint8x16_t places = merge(vreinterpretq_u8_s8(scale_codes.groups[part]), upper, 16);
      const uint8x16_t low = vqtbl2q_u8(vld1q_u8_x2(table.low), places), high = vqtbl2q_u8(vld1q_u8_x2(table.high), places);
      const int16x8_t first = vreinterpretq_s16_u8(vzip1q_u8(low, high)), second = vreinterpretq_s16_u8(vzip2q_u8(low, high));
      const int16x8_t groups[kTileGroups] = {vuzp1q_s16(first, second), vuzp2q_s16(first, second)};
      for (size_t group = 0; group < kTileGroups; ++group) {
        out.rows[group][part] = vmovl_s16(vget_low_s16(groups[group]));
        out.rows[group][part + 2] = vmovl_high_s16(groups[group]);
      }
    }
  }

  // The sums of eight rows in 16 bits.
  static int16x8_t joined(int8x8_t low, int8x8_t high) noexcept {
    static_assert(kHighUnit == 1 << 5);
    return vaddw_s8(vshll_n_s8(high, 5), low);
  }
  static void scale(const Bytes& low, const Bytes& high, const Multiples& multiples, Float (&out)[4]) noexcept {
    int32x4_t sums[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    for (size_t group = 0; group < kTileGroups; ++group) {
      const int8x16_t low_parts = low.groups[group], high_parts = high.groups[group];
      const int16x8_t first = joined(vget_low_s8(low_parts), vget_low_s8(high_parts)),
                      second = joined(vget_high_s8(low_parts), vget_high_s8(high_parts));
      const Scales(&rows)[4] = multiples.rows[group];
      sums[0] = vmlaq_s32(sums[0], vmovl_s16(vget_low_s16(first)), rows[0]);
      sums[1] = vmlaq_s32(sums[1], vmovl_high_s16(first), rows[1]);
      sums[2] = vmlaq_s32(sums[2], vmovl_s16(vget_low_s16(second)), rows[2]);
      sums[3] = vmlaq_s32(sums[3], vmovl_high_s16(second), rows[3]);
    }
    for (size_t quarter = 0; quarter < 4; ++quarter) out[quarter] = vcvtq_f32_s32(sums[quarter]);
  }

  static float sum_of_magnitudes(const float* x) noexcept {
    const Float columns = sums_of_columns(x);
    const float32x2_t halves = vpadd_f32(vget_low_f32(columns), vget_high_f32(columns));
    return vget_lane_f32(halves, 0) + vget_lane_f32(halves, 1);
  }
  static void round(const float* x, float inverse, int16_t* values) noexcept {
    vst1q_s16(values, rounded(x, inverse));
    vst1q_s16(values + 8, rounded(x + 8, inverse));
  }

  static void store_sums(const int16_t (&values)[kTileGroups][16], const uint8_t (&columns)[3], int8_t* low,
                         int8_t* high) noexcept {
    for (size_t group = 0; group < kTileGroups; ++group) {
      int16x8_t sums[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
      for (size_t i = 0; i < 3; ++i) {
        const int16_t value = values[group][columns[i]];
        for (size_t part = 0; part < 2; ++part) {
          sums[part] = vmlaq_n_s16(sums[part], vld1q_s16(kTripleCodes[i].data() + part * 8), value);
        }
      }
      store_parts(sums[0], sums[1], low + group * 16, high + group * 16);
    }
  }
  static void store_last(const int16_t (&values)[kTileGroups][16], int8_t* low, int8_t* high) noexcept {
    constexpr int16_t kCodes[8] = {0, -1, 0, 1};
    for (size_t group = 0; group < kTileGroups; ++group) {
      const int16x8_t sums = vmulq_n_s16(vld1q_s16(kCodes), values[group][kLastColumn]);
      store_parts(sums, vdupq_n_s16(0), low + group * 16, high + group * 16);
    }
  }

  // Of numbers 0 to 7 and 8 to 15.
  static void store_parts(int16x8_t below, int16x8_t above, int8_t* low, int8_t* high) noexcept {
    static_assert(kHighUnit == 1 << 5);
    const int16x8_t high_below = vrshrq_n_s16(below, 5), high_above = vrshrq_n_s16(above, 5);
    vst1q_s8(high, vcombine_s8(vmovn_s16(high_below), vmovn_s16(high_above)));
    vst1q_s8(low, vcombine_s8(vmovn_s16(vsubq_s16(below, vshlq_n_s16(high_below, 5))),
                              vmovn_s16(vsubq_s16(above, vshlq_n_s16(high_above, 5)))));
  }
};

constexpr TernaryKernels kTable = TernaryOperations<Vector>::table("neon", TripleOperations<TripleVector>::product());

}  // namespace

const TernaryKernels& ternary_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::neon
