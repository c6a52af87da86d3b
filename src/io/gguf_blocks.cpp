#include "io/gguf_blocks.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/half.h"

namespace tritllm {
namespace {

// In every format below, `d` scales the codes and `m` is the minimum, both half precision.
constexpr size_t kSmallBlock = 32;
constexpr size_t kSuperBlock = 256;

float half_at(const uint8_t* bytes) noexcept {
  uint16_t bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  return float_from_half(bits);
}

// Byte i of 16 holds elements i (low nibble) and i + 16 (high nibble); `high` holds a fifth bit for each element.
template <bool kFifthBit>
uint32_t small_code(const uint8_t* nibbles, [[maybe_unused]] uint32_t high, size_t i) noexcept {
  const uint32_t nibble = i < 16 ? nibbles[i] & 15u : nibbles[i - 16] >> 4;
  if constexpr (kFifthBit) return nibble | (((high >> i) & 1u) << 4);
  return nibble;
}

// Q4_0 and Q5_0: d, fifth bits, nibbles; the code's middle is zero.
template <bool kFifthBit>
void symmetric_block(const uint8_t* block, float* out) noexcept {
  const float d = half_at(block);
  uint32_t high = 0;
  if constexpr (kFifthBit) std::memcpy(&high, block + 2, sizeof(high));
  const uint8_t* const nibbles = block + (kFifthBit ? 6 : 2);
  constexpr int kMiddle = kFifthBit ? 16 : 8;
  for (size_t i = 0; i < kSmallBlock; ++i) {
    out[i] = d * static_cast<float>(static_cast<int>(small_code<kFifthBit>(nibbles, high, i)) - kMiddle);
  }
}

// Q4_1 and Q5_1: d, m, fifth bits, nibbles.
template <bool kFifthBit>
void affine_block(const uint8_t* block, float* out) noexcept {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  uint32_t high = 0;
  if constexpr (kFifthBit) std::memcpy(&high, block + 4, sizeof(high));
  const uint8_t* const nibbles = block + (kFifthBit ? 8 : 4);
  for (size_t i = 0; i < kSmallBlock; ++i) out[i] = d * static_cast<float>(small_code<kFifthBit>(nibbles, high, i)) + m;
}

void q8_0_block(const uint8_t* block, float* out) noexcept {
  const float d = half_at(block);
  for (size_t i = 0; i < kSmallBlock; ++i) out[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * d;
}

// 16 bytes of (scale, minimum) nibbles, 64 bytes of 2-bit codes, d, m. Sixteen elements share a scale; each run of 32 code bytes
// holds 128 elements, 32 to a bit pair.
void q2_k_block(const uint8_t* block, float* out) noexcept {
  const uint8_t* const scales = block;
  const uint8_t* const codes = block + 16;
  const float d = half_at(block + 80);
  const float m = half_at(block + 82);
  for (size_t group = 0; group < 16; ++group) {
    const float scale = d * static_cast<float>(scales[group] & 15u);
    const float minimum = m * static_cast<float>(scales[group] >> 4);
    const uint8_t* const source = codes + group / 8 * 32 + group % 2 * 16;
    const unsigned shift = static_cast<unsigned>(group / 2 % 4 * 2);
    for (size_t i = 0; i < 16; ++i) out[group * 16 + i] = scale * static_cast<float>((source[i] >> shift) & 3u) - minimum;
  }
}

// 32 bytes of third bits (inverted), 64 bytes of 2-bit codes, 12 bytes of sixteen 6-bit scales, d.
void q3_k_block(const uint8_t* block, float* out) noexcept {
  const uint8_t* const third_bits = block;
  const uint8_t* const codes = block + 32;
  const uint8_t* const scales = block + 96;
  const float d = half_at(block + 108);
  for (size_t group = 0; group < 16; ++group) {
    const uint32_t low = group < 8 ? scales[group] & 15u : scales[group - 8] >> 4;
    const uint32_t high = (uint32_t{scales[8 + group % 4]} >> (group / 4 * 2)) & 3u;
    const float scale = d * static_cast<float>(static_cast<int>(low | (high << 4)) - 32);
    const uint8_t* const source = codes + group / 8 * 32 + group % 2 * 16;
    const uint8_t* const source_high = third_bits + group % 2 * 16;
    const unsigned shift = static_cast<unsigned>(group / 2 % 4 * 2);
    const unsigned bit = static_cast<unsigned>(group / 2);
    for (size_t i = 0; i < 16; ++i) {
      const int code = static_cast<int>((source[i] >> shift) & 3u) - (((source_high[i] >> bit) & 1u) != 0 ? 0 : 4);
      out[group * 16 + i] = scale * static_cast<float>(code);
    }
  }
}

struct ScaleAndMinimum {
  uint32_t scale, minimum;
};

// The 6-bit scale and minimum of one of eight groups, from the 12 bytes in which Q4_K and Q5_K keep them.
ScaleAndMinimum scale_and_minimum(const uint8_t* packed, size_t group) noexcept {
  if (group < 4) return {packed[group] & 63u, packed[group + 4] & 63u};
  return {(packed[group + 4] & 15u) | ((packed[group - 4] >> 2) & 48u),
          (static_cast<uint32_t>(packed[group + 4]) >> 4) | ((packed[group] >> 2) & 48u)};
}

// d, m, 12 bytes of scales and minima, Q5_K's 32 bytes of fifth bits, 128 bytes of nibbles: 32 bytes hold two groups.
template <bool kFifthBit>
void affine_super_block(const uint8_t* block, float* out) noexcept {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  const uint8_t* const fifth_bits = block + 16;
  const uint8_t* const nibbles = block + (kFifthBit ? 48 : 16);
  for (size_t group = 0; group < 8; ++group) {
    const auto [scale_code, minimum_code] = scale_and_minimum(block + 4, group);
    const float scale = d * static_cast<float>(scale_code);
    const float minimum = m * static_cast<float>(minimum_code);
    const uint8_t* const source = nibbles + group / 2 * 32;
    const unsigned shift = static_cast<unsigned>(group % 2 * 4);
    for (size_t i = 0; i < 32; ++i) {
      uint32_t code = (source[i] >> shift) & 15u;
      if constexpr (kFifthBit) code |= ((fifth_bits[i] >> group) & 1u) << 4;
      out[group * 32 + i] = scale * static_cast<float>(code) - minimum;
    }
  }
}

// 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d. Each half of the block (128 elements) has 64 nibble
// bytes and 32 bit-pair bytes; four runs of 32 elements share them.
void q6_k_block(const uint8_t* block, float* out) noexcept {
  const uint8_t* const low = block;
  const uint8_t* const high = block + 128;
  const uint8_t* const scales = block + 192;
  const float d = half_at(block + 208);
  for (size_t group = 0; group < 16; ++group) {
    const float scale = d * static_cast<float>(static_cast<int8_t>(scales[group]));
    const size_t run = group / 2;
    const uint8_t* const source_low = low + run / 4 * 64 + run % 2 * 32 + group % 2 * 16;
    const uint8_t* const source_high = high + run / 4 * 32 + group % 2 * 16;
    const unsigned shift_low = static_cast<unsigned>(run / 2 % 2 * 4);
    const unsigned shift_high = static_cast<unsigned>(run % 4 * 2);
    for (size_t i = 0; i < 16; ++i) {
      const uint32_t code = ((source_low[i] >> shift_low) & 15u) | (((source_high[i] >> shift_high) & 3u) << 4);
      out[group * 16 + i] = scale * static_cast<float>(static_cast<int>(code) - 32);
    }
  }
}

// What a nibble stands for in IQ4_NL and IQ4_XS, and, doubled, in MXFP4.
constexpr int8_t kNonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kTinyFloats[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 32 elements by the entries of a table.
void table_group(const int8_t* table, const uint8_t* nibbles, float scale, float* out) noexcept {
  for (size_t i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(table[small_code<false>(nibbles, 0, i)]);
}

// d, nibbles.
void iq4_nl_block(const uint8_t* block, float* out) noexcept { table_group(kNonlinear, block + 2, half_at(block), out); }

// The exponent of a power of two, nibbles. The power is halved, because the table's entries are doubled.
void mxfp4_block(const uint8_t* block, float* out) noexcept {
  const uint32_t exponent = block[0];
  const uint32_t bits = exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23;
  table_group(kTinyFloats, block + 1, std::bit_cast<float>(bits), out);
}

// d, high bit pairs and low nibbles of eight 6-bit scales, 128 bytes of nibbles: 16 bytes to a scale.
void iq4_xs_block(const uint8_t* block, float* out) noexcept {
  const float d = half_at(block);
  for (size_t group = 0; group < 8; ++group) {
    const uint32_t high = (uint32_t{block[2 + group / 4]} >> (group % 4 * 2)) & 3u;
    const uint32_t low = (uint32_t{block[4 + group / 2]} >> (group % 2 * 4)) & 15u;
    const float scale = d * static_cast<float>(static_cast<int>(low | (high << 4)) - 32);
    table_group(kNonlinear, block + 8 + group * 16, scale, out + group * 32);
  }
}

// A byte holds up to five trits as a fraction of 256: each multiplication by three brings the next one above the point.
float trit_of(uint8_t fraction, size_t index) noexcept {
  for (size_t i = 0; i < index; ++i) fraction = static_cast<uint8_t>(fraction * 3);
  return static_cast<float>((fraction * 3 >> 8) - 1);
}

// 32 and 16 bytes of five trits, 4 bytes of four, d. The first trits of a run of bytes come first, then all second ones.
void tq1_0_block(const uint8_t* block, float* out) noexcept {
  const float d = half_at(block + 52);
  const auto run = [&](const uint8_t* bytes, size_t count, size_t trits) {
    for (size_t trit = 0; trit < trits; ++trit) {
      for (size_t i = 0; i < count; ++i) *out++ = d * trit_of(bytes[i], trit);
    }
  };
  run(block, 32, 5);
  run(block + 32, 16, 5);
  run(block + 48, 4, 4);
}

// 64 bytes of four codes, d. Each run of 32 bytes holds 128 elements, 32 to a bit pair.
void tq2_0_block(const uint8_t* block, float* out) noexcept {
  const float d = half_at(block + 64);
  for (size_t i = 0; i < kSuperBlock; ++i) {
    const uint32_t code = (uint32_t{block[i / 128 * 32 + i % 32]} >> (i % 128 / 32 * 2)) & 3u;
    out[i] = d * static_cast<float>(static_cast<int>(code) - 1);
  }
}

template <size_t kElements, typename Block>
void each_block(const uint8_t* blocks, size_t block_bytes, std::span<float> out, Block block) noexcept {
  for (size_t i = 0; i < out.size() / kElements; ++i) block(blocks + i * block_bytes, out.data() + i * kElements);
}

}  // namespace

void dequantise_blocks(ElementType type, const std::byte* blocks, std::span<float> out) noexcept {
  const auto* const bytes = reinterpret_cast<const uint8_t*>(blocks);
  const size_t size = layout_of(type).block_bytes;
  switch (type) {
    case ElementType::kQ4_0: return each_block<kSmallBlock>(bytes, size, out, symmetric_block<false>);
    case ElementType::kQ5_0: return each_block<kSmallBlock>(bytes, size, out, symmetric_block<true>);
    case ElementType::kQ4_1: return each_block<kSmallBlock>(bytes, size, out, affine_block<false>);
    case ElementType::kQ5_1: return each_block<kSmallBlock>(bytes, size, out, affine_block<true>);
    case ElementType::kQ8_0: return each_block<kSmallBlock>(bytes, size, out, q8_0_block);
    case ElementType::kQ2_K: return each_block<kSuperBlock>(bytes, size, out, q2_k_block);
    case ElementType::kQ3_K: return each_block<kSuperBlock>(bytes, size, out, q3_k_block);
    case ElementType::kQ4_K: return each_block<kSuperBlock>(bytes, size, out, affine_super_block<false>);
    case ElementType::kQ5_K: return each_block<kSuperBlock>(bytes, size, out, affine_super_block<true>);
    case ElementType::kQ6_K: return each_block<kSuperBlock>(bytes, size, out, q6_k_block);
    case ElementType::kIQ4_NL: return each_block<kSmallBlock>(bytes, size, out, iq4_nl_block);
    case ElementType::kMXFP4: return each_block<kSmallBlock>(bytes, size, out, mxfp4_block);
    case ElementType::kIQ4_XS: return each_block<kSuperBlock>(bytes, size, out, iq4_xs_block);
    case ElementType::kTQ1_0: return each_block<kSuperBlock>(bytes, size, out, tq1_0_block);
    case ElementType::kTQ2_0: return each_block<kSuperBlock>(bytes, size, out, tq2_0_block);
    default: return;
  }
}

}  // namespace tritllm
