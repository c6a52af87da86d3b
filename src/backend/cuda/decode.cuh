// Owns the way of packed words into half-precision operands, one specialisation for each depth of layout.h.
//
// A field is never moved where it need not be: OR-ed into the mantissa of 1024 (0x6400) where it lies, it is the number
// 1024 + power·(code + H), with power = field_power(). Products with a single token leave it so, divide the activation by the power
// and start their sum at −Σ field_base·activation; products with several tokens subtract the base, which is exact.
#pragma once

#include "backend/cuda/layout.h"
#include "backend/cuda/ptx.cuh"

namespace tritllm::cuda {

inline constexpr uint32_t kMagic = 0x64006400u;  // 1024 in both halves

// What a field of code 0 is, as decoded.
constexpr float field_base(int depth, int slot) {
  return depth == 0 ? 0.0f : 1024.0f + static_cast<float>(largest_code(depth) * field_power(depth, slot));
}

// `words`: the half_words(kDepth) words of one row of a block in this lane. fields[s]: slot s of the two groups, low and high half.
template <int kDepth>
struct Decoder;

template <>
struct Decoder<0> {
  TRIT_DEVICE static void fields(const uint32_t* words, uint32_t (&fields)[16]) {
#pragma unroll
    for (int slot = 0; slot < 16; ++slot) fields[slot] = words[slot];
  }
};

template <>
struct Decoder<1> {
  TRIT_DEVICE static void fields(const uint32_t* words, uint32_t (&fields)[16]) {
#pragma unroll
    for (int word = 0; word < 2; ++word) {
      const uint32_t low = words[word], high = low >> 8;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        fields[8 * word + i] = mask_or(low, 0x00030003u << (2 * i), kMagic);
        fields[8 * word + 4 + i] = mask_or(high, 0x00030003u << (2 * i), kMagic);
      }
    }
  }
};

template <>
struct Decoder<2> {
  TRIT_DEVICE static void fields(const uint32_t* words, uint32_t (&fields)[16]) {
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      const uint32_t low = words[word], high = low >> 8;
      fields[4 * word] = mask_or(low, 0x000F000Fu, kMagic);
      fields[4 * word + 1] = mask_or(low, 0x00F000F0u, kMagic);
      fields[4 * word + 2] = mask_or(high, 0x000F000Fu, kMagic);
      fields[4 * word + 3] = mask_or(high, 0x00F000F0u, kMagic);
    }
  }
};

template <>
struct Decoder<3> {
  TRIT_DEVICE static void fields(const uint32_t* words, uint32_t (&fields)[16]) {
    uint32_t last = kMagic;
#pragma unroll
    for (int word = 0; word < 5; ++word) {
      const uint32_t w = words[word];
      fields[3 * word] = mask_or(w, 0x001F001Fu, kMagic);
      fields[3 * word + 1] = mask_or(w, 0x03E003E0u, kMagic);
      fields[3 * word + 2] = mask_or(w >> 10, 0x001F001Fu, kMagic);
      last = mask_or(w >> (15 - word), 0x00010001u << word, last);
    }
    fields[15] = last;
  }
};

template <>
struct Decoder<4> {
  TRIT_DEVICE static void fields(const uint32_t* words, uint32_t (&fields)[16]) {
#pragma unroll
    for (int word = 0; word < 7; ++word) {
      fields[2 * word] = mask_or(words[word], 0x007F007Fu, kMagic);
      fields[2 * word + 1] = mask_or(words[word] >> 7, 0x007F007Fu, kMagic);
    }
    uint32_t slot14 = mask_or(words[0] >> 14, 0x00030003u, kMagic);
    slot14 = mask_or(words[1] >> 12, 0x000C000Cu, slot14);
    slot14 = mask_or(words[2] >> 10, 0x00300030u, slot14);
    fields[14] = mask_or(words[3] >> 8, 0x00400040u, slot14);
    uint32_t slot15 = mask_or(words[3] >> 15, 0x00010001u, kMagic);
    slot15 = mask_or(words[4] >> 13, 0x00060006u, slot15);
    slot15 = mask_or(words[5] >> 11, 0x00180018u, slot15);
    fields[15] = mask_or(words[6] >> 9, 0x00600060u, slot15);
  }
};

TRIT_DEVICE uint32_t both_halves(float value) { return as_word(__float2half2_rn(value)); }

// power·code of each slot, times `scales`: the step of the low halves' group and of the high halves'. Depth 0 has no scales.
template <int kDepth>
TRIT_DEVICE void decode_scaled(const uint32_t* words, uint32_t scales, uint32_t (&weights)[16]) {
  Decoder<kDepth>::fields(words, weights);
  if constexpr (kDepth > 0) {
#pragma unroll
    for (int slot = 0; slot < 16; ++slot) {
      weights[slot] = multiply_halves(add_halves(weights[slot], both_halves(-field_base(kDepth, slot))), scales);
    }
  }
}

// A lane's part of a run of words (layout.h, word_offset), where `wanted`.
template <int kWords>
TRIT_DEVICE void load_run(uint32_t* words, const uint8_t* run, int lane, bool wanted = true) {
#pragma unroll
  for (int i = 0; i < kWords / 4; ++i) stream4(words + 4 * i, run + i * 512 + lane * 16, wanted);
  constexpr int kRest = kWords % 4, kDone = kWords - kRest;
  if constexpr (kRest >= 2) stream2(words + kDone, run + kDone * 128 + lane * 8, wanted);
  if constexpr (kRest == 3) stream1(words[kWords - 1], run + kDone * 128 + 256 + lane * 4, wanted);
  if constexpr (kRest == 1) stream1(words[kWords - 1], run + kDone * 128 + lane * 4, wanted);
}

// The same run copied to shared memory, where its words lie as in the matrix, and read from there.
template <int kWords>
TRIT_DEVICE void copy_run(uint32_t to, const uint8_t* run, int lane, bool wanted) {
  static_assert(kWords % 4 == 0 || kWords % 4 == 2, "no layout ends with a single word");
#pragma unroll
  for (int i = 0; i < kWords / 4; ++i) copy_async_where<16>(to + i * 512 + lane * 16, run + i * 512 + lane * 16, wanted);
  constexpr int kDone = kWords / 4 * 512;
  if constexpr (kWords % 4 == 2) copy_async_where<8>(to + kDone + lane * 8, run + kDone + lane * 8, wanted);
}
template <int kWords>
TRIT_DEVICE void read_run(uint32_t (&words)[kWords], uint32_t from, int lane) {
#pragma unroll
  for (int i = 0; i < kWords / 4; ++i) read_shared4(words + 4 * i, from + i * 512 + lane * 16);
  if constexpr (kWords % 4 == 2) read_shared2(words + kWords - 2, from + kWords / 4 * 512 + lane * 8);
}

// A lane's scale codes of an item: `words` begins behind the item's blocks.
TRIT_DEVICE void load_scale_words(uint32_t (&scales)[kScaleWords], const uint8_t* words, int lane, bool wanted = true) {
#pragma unroll
  for (int i = 0; i < kScaleWords; ++i) stream1(scales[i], words + i * kLanes * 4 + lane * 4, wanted);
}

// The four scale codes of block `block` of an item begin at bit 0 of the result.
TRIT_DEVICE uint32_t block_scale_codes(const uint32_t (&scale_words)[kScaleWords], int block) {
  const int bit = 4 * kScaleCodeBits * block;
  return __funnelshift_r(scale_words[bit / 32], scale_words[bit / 32 + 1], static_cast<uint32_t>(bit % 32));
}

// The step of a scale code in the lowest five bits of `bits`, from a table spread over the lanes: the shuffle reads no other bits.
template <typename T>
TRIT_DEVICE T look_up(T table, uint32_t bits) {
  return __shfl_sync(0xffffffffu, table, static_cast<int>(bits));
}

// A block's scales for rows g and g + 8, from its scale codes and a table of steps as pairs of halves: the low half is the low
// half's group's, the high half the other's.
TRIT_DEVICE void find_scales(uint32_t scale_codes, uint32_t step_pairs, uint32_t& scale, uint32_t& scale8) {
  scale = __byte_perm(look_up(step_pairs, scale_codes), look_up(step_pairs, scale_codes >> kScaleCodeBits), 0x7610);
  scale8 = __byte_perm(look_up(step_pairs, scale_codes >> (2 * kScaleCodeBits)),
                       look_up(step_pairs, scale_codes >> (3 * kScaleCodeBits)), 0x7610);
}

// A block as A operands of rows g and g + 8: words of both, the block's scale codes, and a table of steps as pairs of halves.
template <int kDepth>
TRIT_DEVICE void decode_block(const uint32_t* words, uint32_t scale_codes, uint32_t step_pairs, uint32_t (&rows)[16],
                              uint32_t (&rows8)[16]) {
  uint32_t scale = 0, scale8 = 0;
  if constexpr (kDepth > 0) find_scales(scale_codes, step_pairs, scale, scale8);
  decode_scaled<kDepth>(words, scale, rows);
  decode_scaled<kDepth>(words + half_words(kDepth), scale8, rows8);
}

}  // namespace tritllm::cuda
