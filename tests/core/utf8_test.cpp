// Owns the cases of core/utf8.h: every code point, and every way to write one wrongly.
#include "core/utf8.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace tritllm {
namespace {

// Plain encoding of a number into `length` bytes, without asking whether UTF-8 allows it.
std::string encode(uint32_t value, int length) {
  if (length == 1) return std::string(1, static_cast<char>(value));
  std::string bytes;
  for (int i = 0; i < length - 1; ++i) {
    bytes.insert(bytes.begin(), static_cast<char>(0x80u | (value & 0x3fu)));
    value >>= 6;
  }
  const unsigned lead = (0xf00u >> length) & 0xffu;
  bytes.insert(bytes.begin(), static_cast<char>(lead | value));
  return bytes;
}

int shortest_length(uint32_t value) { return value < 0x80 ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4; }

TEST(Utf8, AcceptsExactlyTheShortestFormOfScalarValues) {
  for (int length = 1; length <= 4; ++length) {
    const uint32_t most = length == 1 ? 0x7f : length == 2 ? 0x7ff : length == 3 ? 0xffff : 0x1fffff;
    for (uint32_t value = 0; value <= most; ++value) {
      const bool is_scalar = value <= 0x10ffff && !(value >= 0xd800 && value <= 0xdfff);
      const bool allowed = is_scalar && shortest_length(value) == length;
      ASSERT_EQ(utf8_sequence_length(encode(value, length)), allowed ? static_cast<size_t>(length) : 0u)
          << std::hex << value << " in " << length << " bytes";
    }
  }
}

TEST(Utf8, RefusesEveryCutAndEveryBadContinuation) {
  for (const std::string& whole : {std::string("é"), std::string("日"), std::string("🙂")}) {
    for (size_t cut = 0; cut < whole.size(); ++cut) {
      EXPECT_EQ(utf8_sequence_length(whole.substr(0, cut)), 0u);
      if (cut == 0) continue;
      for (const char wrong : {'a', '\xc3', '\xff', '\0'}) {
        std::string broken = whole;
        broken[cut] = wrong;
        EXPECT_EQ(utf8_sequence_length(broken), 0u);
      }
    }
  }
}

TEST(Utf8, RefusesBytesThatNeverOccur) {
  for (unsigned byte = 0x80; byte <= 0xff; ++byte) {
    const std::string text = static_cast<char>(byte) + std::string("\x80\x80\x80");
    const bool is_lead = byte >= 0xc2 && byte <= 0xf4;
    const bool needs_larger_second = byte == 0xe0 || byte == 0xf0;
    EXPECT_EQ(utf8_sequence_length(text) > 0, is_lead && !needs_larger_second) << byte;
  }
}

TEST(Utf8, LooksAtTheFirstCharacterOnly) { EXPECT_EQ(utf8_sequence_length("é\xff"), 2u); }

TEST(Utf8, WholeTexts) {
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_TRUE(is_valid_utf8("größe 日本 🙂"));
  EXPECT_FALSE(is_valid_utf8("größe \xff"));
  EXPECT_FALSE(is_valid_utf8("tail cut \xf0\x9f\x99"));
}

}  // namespace
}  // namespace tritllm
