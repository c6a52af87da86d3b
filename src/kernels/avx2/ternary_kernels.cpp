// Owns the integer kernels for AVX2 with FMA. Depth 1: sums of two products looked up for sixteen rows and two groups at a time.
// The other depths: eight rows at a time, products by vpmaddubsw, a group's scale applied by the vpmaddwd that widens its sums.
#include "kernels/ternary_kernels.h"

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace tritllm::kernels::avx2 {
namespace {

#include "kernels/ternary_kernels_simd.h"
#include "kernels/ternary_pairs_simd.h"
#include "kernels/ternary_quantize_x86.h"

#include "kernels/avx2/pair_vector.h"

struct Vector : Vector256 {
  using Codes = __m256i;   // of row i: bytes 4·i to 4·i + 3
  using Scales = __m256i;  // 16 bits, twice for each row
  static constexpr bool kUnsqueezes = false;

  static void scales(const uint8_t* places, const ScaleTable& table, Scales (&out)[kTileGroups][2]) noexcept {
    __m256i multiples[kTileGroups];
    multiples_of_groups(places, table, multiples);
    for (size_t group = 0; group < kTileGroups; ++group) {
      out[group][0] = _mm256_unpacklo_epi16(multiples[group], multiples[group]);
      out[group][1] = _mm256_unpackhi_epi16(multiples[group], multiples[group]);
    }
  }

  // Loaded once, although used more than once: the loads' ports are as busy as the rest.
  static __m256i fields_at(const void* p) noexcept {
    __m256i fields = bytes(p);
    keep(fields);
    return fields;
  }

  template <TileFormat kFormat>
  static void codes(const uint8_t* block, size_t group, size_t half, Codes (&out)[4]) noexcept {
    for (size_t pair = 0; pair < 2; ++pair) {
      const __m256i fields = fields_at(block + ((group * 2 + pair) * 2 + half) * 32);
      out[2 * pair] = and_bytes(fields, 15);
      out[2 * pair + 1] = and_bytes(_mm256_srli_epi16(fields, 4), 15);
    }
    if constexpr (format_depth(kFormat) == 3) add_fifth_bits(block, group, half, out);
    if constexpr (format_depth(kFormat) == 4) add_joint_parts(block, group, half, out);
  }

  // Bit `place` of each byte, at bit 4.
  static __m256i fifth_bits(__m256i plane, size_t place) noexcept {
    const auto bit = static_cast<int>(place);
    return and_bytes(bit < 4 ? _mm256_slli_epi16(plane, 4 - bit) : _mm256_srli_epi16(plane, bit - 4), 16);
  }

  static void add_fifth_bits(const uint8_t* block, size_t group, size_t half, Codes (&out)[4]) noexcept {
    const __m256i plane = fields_at(block + kFifthBitsOffset + group * 32);
    for (size_t quad = 0; quad < 4; ++quad) out[quad] = _mm256_or_si256(out[quad], fifth_bits(plane, quad + 4 * half));
  }

  static void add_joint_parts(const uint8_t* block, size_t group, size_t half, Codes (&out)[4]) noexcept {
    const __m256i numbers = fields_at(block + kJointOffset + (group * 2 + half) * 32), plane = bytes(block + kJointFifthBitsOffset);
    for (size_t pair = 0; pair < 2; ++pair) {
      __m256i &first = out[2 * pair], &second = out[2 * pair + 1];
      const __m256i number = and_bytes(pair == 0 ? numbers : _mm256_srli_epi16(numbers, 4), 15);
      const __m256i sum = _mm256_add_epi8(first, _mm256_shuffle_epi8(both_halves(kJointFirst.data()), number));
      first = _mm256_min_epu8(sum, _mm256_set1_epi8(kLargestDeepField));
      const __m256i excess = _mm256_slli_epi16(_mm256_sub_epi8(sum, first), 5);
      const __m256i rest = _mm256_or_si256(_mm256_shuffle_epi8(both_halves(kJointSecond.data()), number), excess);
      second = _mm256_or_si256(_mm256_or_si256(second, fifth_bits(plane, pair + 2 * group + 4 * half)), rest);
    }
  }

  // Sums of unsigned fields start at the offset that makes them sums of codes: on the way they may wrap around, in the end they
  // fit.
  template <TileFormat>
  static Float dot(const Codes (&codes)[4], Scales scales, const ActivationGroup& input) noexcept {
    const __m256i product0 = _mm256_maddubs_epi16(codes[0], four_bytes(input.values)),
                  product1 = _mm256_maddubs_epi16(codes[1], four_bytes(input.values + 4)),
                  product2 = _mm256_maddubs_epi16(codes[2], four_bytes(input.values + 8)),
                  product3 = _mm256_maddubs_epi16(codes[3], four_bytes(input.values + 12));
    const __m256i first = _mm256_add_epi16(_mm256_add_epi16(four_bytes(input.offsets), product0), product1);
    const __m256i sum = _mm256_add_epi16(first, _mm256_add_epi16(product2, product3));
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(sum, scales));
  }

  // Magnitudes compare as integers do.
  static uint32_t largest_magnitude(const float* x) noexcept {
    const __m256i first = bytes(x), second = bytes(x + 8);
    const __m256i doubled = _mm256_max_epu32(_mm256_slli_epi32(first, 1), _mm256_slli_epi32(second, 1));  // the sign shifted out
    __m128i most = _mm_max_epu32(_mm256_castsi256_si128(doubled), _mm256_extracti128_si256(doubled, 1));
    most = _mm_max_epu32(most, _mm_unpackhi_epi64(most, most));
    most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 1));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(most)) >> 1;
  }

  static float heavier_half(const float* x) noexcept { return heavier_half_of_group(x); }

  template <TileFormat kFormat>
  static void round(const float* x, float inverse, ActivationGroup& group) noexcept {
    const __m256i words = rounded(x, inverse);
    const __m128i values = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(group.values), values);
    set_offsets<kFormat>(values, group);
  }
};

constexpr TernaryKernels kTable = TernaryOperations<Vector>::table("avx2", PairOperations<PairVector>::product());

}  // namespace

const TernaryKernels& ternary_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::avx2
