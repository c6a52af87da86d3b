// The way back from codes to numbers, for every code of every entry.
#include "codec/decoder.h"

#include <gtest/gtest.h>

#include <bit>
#include <vector>

#include "codec/geometry.h"
#include "core/half.h"

namespace tritllm::codec {
namespace {

// From 0 to the largest, so that FP16 underflows, rounds and stays in range.
Codebook wide_codebook() {
  Codebook codebook{0.0f, 0x1p-40f, 0x1p-24f, 6e-8f, 1e-7f, 3.1e-5f, 6.1e-5f, 1e-4f};
  for (size_t entry = 8; entry < codebook.size(); ++entry) codebook[entry] = codebook[entry - 1] * 2.7f;
  codebook.back() = kLargestHalf;
  return codebook;
}

TEST(Decoder, EveryCodeOfEveryEntry) {
  const Codebook codebook = wide_codebook();
  for (int depth = 1; depth <= kMaxDepth; ++depth) {
    const int largest = largest_code(depth);
    std::vector<int8_t> codes;
    std::vector<uint8_t> scale_codes;
    for (size_t entry = 0; entry < codebook.size(); ++entry) {
      for (int first = -largest; first <= largest; first += 16) {
        scale_codes.push_back(static_cast<uint8_t>(entry));
        for (int i = 0; i < 16; ++i) codes.push_back(static_cast<int8_t>(std::min(first + i, largest)));
      }
    }
    std::vector<float> floats(codes.size() + 16, -7.0f);
    std::vector<uint16_t> halves(codes.size() + 16, 0xabcd);
    FloatDecoder(codebook, depth).decode(codes.data(), scale_codes.data(), scale_codes.size(), floats.data());
    HalfDecoder(codebook, depth).decode(codes.data(), scale_codes.data(), scale_codes.size(), halves.data());
    for (size_t i = 0; i < codes.size(); ++i) {
      const float step = codebook[scale_codes[i / 16]] / static_cast<float>(largest);
      const float expected = static_cast<float>(codes[i]) * step;
      ASSERT_EQ(std::bit_cast<uint32_t>(floats[i]), std::bit_cast<uint32_t>(expected))
          << "depth " << depth << ", code " << int{codes[i]};
      ASSERT_EQ(halves[i], half_from_float(expected));
      ASSERT_TRUE(codes[i] != 0 || halves[i] == 0) << "code 0 is +0";
    }
    for (size_t i = codes.size(); i < floats.size(); ++i) {
      EXPECT_EQ(floats[i], -7.0f);
      EXPECT_EQ(halves[i], 0xabcd);
    }
  }
}

}  // namespace
}  // namespace tritllm::codec
