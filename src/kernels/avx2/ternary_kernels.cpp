// Owns the integer kernels for AVX2 with FMA. Depth 1: sums of three products looked up for sixteen rows and two groups at a time.
// The other depths: eight rows at a time, products by vpmaddubsw, a group's scale applied by the vpmaddwd that widens its sums.
#include "kernels/ternary_kernels.h"

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace tritllm::kernels::avx2 {
namespace {

#include "kernels/avx2/vector.h"
#include "kernels/ternary_kernels_simd.h"
#include "kernels/ternary_quantize_x86.h"
#include "kernels/ternary_triples_simd.h"

// What both descriptions of vectors share.
struct Common : FloatVector {
  static constexpr size_t kVectorRows = 8;

  static __m256i bytes(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static __m256i and_bytes(__m256i a, int mask) noexcept { return _mm256_and_si256(a, _mm256_set1_epi8(static_cast<char>(mask))); }
  static __m256i four_bytes(const void* p) noexcept {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof(word));
    return _mm256_set1_epi32(word);
  }

  static void keep(__m256i& bytes) noexcept { asm("" : "+x"(bytes)); }

  // The same 16 bytes in both halves.
  static __m256i both_halves(const void* p) noexcept {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }

  // Byte `scale_code` of a table of 32.
  static __m256i bytes_of_scale_codes(const uint8_t* table, __m256i scale_codes, __m256i upper) noexcept {
    return _mm256_blendv_epi8(_mm256_shuffle_epi8(both_halves(table), scale_codes),
                              _mm256_shuffle_epi8(both_halves(table + 16), scale_codes), upper);
  }

  // 16 values x[i]·inverse, to the nearest even.
  static __m256i rounded(const float* x, float inverse) noexcept {
    const __m256i low = _mm256_cvtps_epi32(multiply(load(x), set(inverse)));
    const __m256i high = _mm256_cvtps_epi32(multiply(load(x + 8), set(inverse)));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
  }
};

struct Vector : Common {
  using Codes = __m256i;   // of row i: bytes 4·i to 4·i + 3
  using Scales = __m256i;  // 16 bits, twice for each row
  static constexpr bool kUnsqueezes = false;

  static void scales(const uint8_t* places, const ScaleTable& table, Scales (&out)[kTileGroups][2]) noexcept {
    const __m128i nibbles = _mm_loadu_si128(reinterpret_cast<const __m128i*>(places));
    const __m256i scale_codes = and_bytes(_mm256_set_m128i(_mm_srli_epi16(nibbles, 4), nibbles), 15);
    // The fifth bits, at the top of their bytes.
    const __m256i upper = _mm256_sllv_epi32(four_bytes(places + kScaleCodeNibbleBytes), _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0));
    const __m256i low = bytes_of_scale_codes(table.low, scale_codes, upper),
                  high = bytes_of_scale_codes(table.high, scale_codes, upper);
    // Of a group: rows 0 to 3 and 8 to 11 in the lower half of the vector, rows 4 to 7 and 12 to 15 in the upper one.
    const __m256i multiples[kTileGroups] = {_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)};
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
      first = _mm256_min_epu8(sum, _mm256_set1_epi8(kLargestJointField));
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

struct TripleVector : Common {
  using Bytes = __m256i;  // rows of group 0, rows of group 1
  struct Multiples {
    __m256i rows[2];  // 16 bits: group 0, group 1 of each of eight rows
  };

  static __m256i add(__m256i a, __m256i b) noexcept { return _mm256_add_epi8(a, b); }
  static __m256i low_fields(__m256i a) noexcept { return and_bytes(a, 15); }
  static __m256i high_fields(__m256i a) noexcept { return and_bytes(_mm256_srli_epi16(a, 4), 15); }
  static __m256i last_fields(__m256i a) noexcept { return and_bytes(a, 3); }
  static __m256i look_up(__m256i table, __m256i fields) noexcept { return _mm256_shuffle_epi8(table, fields); }
  static __m256i negate(__m256i a, __m256i signs) noexcept { return _mm256_sign_epi8(a, signs); }

  // In the order of triple_scale_code_place(). A look-up gives zero where the top bit is set, so each half of a table gives its
  // own.
  static void multiples(__m256i scale_codes, __m256i fifth, const ScaleTable& table, Multiples& out) noexcept {
    const __m256i lower = _mm256_or_si256(scale_codes, fifth), upper = _mm256_xor_si256(lower, _mm256_set1_epi8(-128));
    const auto bytes_of = [&](const uint8_t* bytes) {
      return _mm256_or_si256(look_up(both_halves(bytes), lower), look_up(both_halves(bytes + 16), upper));
    };
    const __m256i low = bytes_of(table.low), high = bytes_of(table.high);
    out.rows[0] = _mm256_unpacklo_epi8(low, high);
    out.rows[1] = _mm256_unpackhi_epi8(low, high);
  }

  // Rows' sums of group 0 in the lower half, of group 1 in the upper one: now the two of a row side by side.
  static __m256i beside(__m256i sums) noexcept {
    const __m256i order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    return _mm256_shuffle_epi8(_mm256_permute4x64_epi64(sums, 0xd8), order);
  }
  static void scale(__m256i low, __m256i high, const Multiples& multiples, Float (&out)[2]) noexcept {
    const __m256i units = _mm256_set1_epi16(kHighUnit << 8 | 1);
    const __m256i first = _mm256_maddubs_epi16(units, _mm256_unpacklo_epi8(low, high)),
                  second = _mm256_maddubs_epi16(units, _mm256_unpackhi_epi8(low, high));
    out[0] = _mm256_cvtepi32_ps(_mm256_madd_epi16(beside(first), multiples.rows[0]));
    out[1] = _mm256_cvtepi32_ps(_mm256_madd_epi16(beside(second), multiples.rows[1]));
  }

  static float sum_of_magnitudes(const float* x) noexcept {
    const __m128 halves = halves_of_group(x);
    return _mm_cvtss_f32(_mm_add_ss(halves, _mm_movehl_ps(halves, halves)));
  }
  static void round(const float* x, float inverse, int16_t* values) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), rounded(x, inverse));
  }

  static __m256i times(int16_t value, __m256i codes) noexcept { return _mm256_sign_epi16(_mm256_set1_epi16(value), codes); }

  static void store_sums(const int16_t (&values)[kTileGroups][16], const uint8_t (&columns)[3], int8_t* low,
                         int8_t* high) noexcept {
    const auto part = [&](const int16_t* x, size_t i) { return times(x[columns[i]], bytes(kTripleCodes[i].data())); };
    const auto sums = [&](const int16_t* x) { return _mm256_add_epi16(_mm256_add_epi16(part(x, 0), part(x, 1)), part(x, 2)); };
    store_parts({{sums(values[0]), sums(values[1])}}, low, high);
  }
  static void store_last(const int16_t (&values)[kTileGroups][16], int8_t* low, int8_t* high) noexcept {
    const __m256i codes = _mm256_setr_epi16(0, -1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    store_parts({{times(values[0][kLastColumn], codes), times(values[1][kLastColumn], codes)}}, low, high);
  }

  struct GroupSums {
    __m256i of_group[kTileGroups];  // 16 bits each
  };
  static void store_parts(const GroupSums& sums, int8_t* low, int8_t* high) noexcept {
    static_assert(kHighUnit == 1 << 5);
    GroupSums low_parts, high_parts;
    for (size_t group = 0; group < kTileGroups; ++group) {
      const __m256i sum = sums.of_group[group];
      high_parts.of_group[group] = _mm256_mulhrs_epi16(sum, _mm256_set1_epi16(1 << 10));  // (sum + 16) >> 5
      low_parts.of_group[group] = _mm256_sub_epi16(sum, _mm256_slli_epi16(high_parts.of_group[group], 5));
    }
    store_bytes(low_parts, low);
    store_bytes(high_parts, high);
  }
  static void store_bytes(const GroupSums& words, int8_t* to) noexcept {
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(words.of_group[0], words.of_group[1]), 0xd8);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), bytes);
  }
};

constexpr TernaryKernels kTable = TernaryOperations<Vector>::table("avx2", TripleOperations<TripleVector>::product());

}  // namespace

const TernaryKernels& ternary_kernels() noexcept { return kTable; }

}  // namespace tritllm::kernels::avx2
