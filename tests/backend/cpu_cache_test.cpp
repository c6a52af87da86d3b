// The key/value cache: every part, layer, page, head and position has a place of its own.
#include "backend/cpu/cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "core/half.h"

namespace tritllm {
namespace {

constexpr uint32_t kLayers = 2, kPages = 3, kHeads = 2, kWidth = 5, kStride = 16;

// Exact in F16, and another one for every place that an error of layout could confuse with this one.
float number_of(uint32_t part, uint32_t layer, uint32_t page, uint32_t position, uint32_t head, uint32_t element) {
  const uint32_t index =
      ((((part * kLayers + layer) * kPages + page) * kCpuPagePositions + position) * kHeads + head) * kWidth + element;
  return float_from_half(static_cast<uint16_t>(index % 31741 + 1));
}

class CpuCacheTest : public testing::TestWithParam<CacheType> {};
INSTANTIATE_TEST_SUITE_P(Types, CpuCacheTest, testing::Values(CacheType::kFloat32, CacheType::kFloat16));

TEST_P(CpuCacheTest, NoPlaceOverlapsAnother) {
  const CacheType type = GetParam();
  CpuCache cache({kLayers, kHeads, kWidth, kPages, type});
  const size_t element = type == CacheType::kFloat32 ? 4 : 2;
  EXPECT_EQ(cache.bytes(), size_t{2} * kLayers * kPages * kHeads * kCpuPagePositions * kStride * element);
  const auto for_all = [&](const auto& body) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      for (uint32_t page = 0; page < kPages; ++page) {
        for (uint32_t position = 0; position < kCpuPagePositions; ++position) body(layer, page, position);
      }
    }
  };
  for_all([&](uint32_t layer, uint32_t page, uint32_t position) {
    std::vector<float> keys, values;
    for (uint32_t i = 0; i < kHeads * kWidth; ++i) {
      keys.push_back(number_of(0, layer, page, position, i / kWidth, i % kWidth));
      values.push_back(number_of(1, layer, page, position, i / kWidth, i % kWidth));
    }
    cache.store_keys(layer, page, position, keys.data());
    cache.store_values(layer, page, position, values.data());
  });
  const auto found = [&](const void* elements, size_t index) {
    return type == CacheType::kFloat32 ? static_cast<const float*>(elements)[index]
                                       : float_from_half(static_cast<const uint16_t*>(elements)[index]);
  };
  const auto expect_page = [&](uint32_t layer, uint32_t shown, uint32_t page, uint32_t position) {
    for (uint32_t head = 0; head < kHeads; ++head) {
      const void* const keys = cache.keys(layer, shown, head);
      const void* const values = cache.values(layer, shown, head);
      const size_t tile = position / 16, lane = position % 16;
      for (uint32_t i = 0; i < kStride; ++i) {
        ASSERT_EQ(found(keys, (tile * kStride + i) * 16 + lane), i < kWidth ? number_of(0, layer, page, position, head, i) : 0.0f);
        ASSERT_EQ(found(values, (i / 16 * kCpuPagePositions + position) * 16 + i % 16),
                  i < kWidth ? number_of(1, layer, page, position, head, i) : 0.0f);
      }
    }
  };
  for_all([&](uint32_t layer, uint32_t page, uint32_t position) { expect_page(layer, page, page, position); });
  cache.copy_page(1, 2);
  for_all([&](uint32_t layer, uint32_t page, uint32_t position) { expect_page(layer, page, page == 2 ? 1 : page, position); });
}

TEST(CpuCache, HalvesAreRoundedToNearestEven) {
  CpuCache cache({.layers = 1, .key_value_heads = 1, .head_width = 6, .pages = 1, .type = CacheType::kFloat16});
  // 1 + 2^-11 lies between 1 and 1 + 2^-10, the even one is 1; 1 + 3·2^-11 goes up to 1 + 2^-9.
  const float values[] = {1.0f + 0x1p-11f, 1.0f + 0x3p-11f, -1.0f - 0x1.01p-11f, 65504.0f, 0x1p-24f, 0x1p-25f};
  const uint16_t expected[] = {0x3c00, 0x3c02, 0xbc01, 0x7bff, 0x0001, 0x0000};
  cache.store_keys(0, 0, 0, values);
  cache.store_values(0, 0, 0, values);
  const auto* const keys = static_cast<const uint16_t*>(cache.keys(0, 0, 0));
  const auto* const found = static_cast<const uint16_t*>(cache.values(0, 0, 0));
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(keys[i * 16], expected[i]) << i;
    EXPECT_EQ(found[i], expected[i]) << i;
  }
}

// Codes and scale of a head are found by the cache's own layout: element i of position p is (p / 16 · stride + i) · 16 + p % 16 of
// the keys and (i / 16 · positions + p) · 16 + i % 16 of the values.
TEST(CpuCache, BytesCountTimesTheScaleOfTheirPosition) {
  for (const CacheType type : {CacheType::kFloat8, CacheType::kInt8}) {
    CpuCache cache({.layers = 2, .key_value_heads = 2, .head_width = 5, .pages = 2, .type = type});
    EXPECT_EQ(cache.bytes(), 2u * 2 * 2 * 2 * kCpuPagePositions * (kStride + 2));
    const float limit = type == CacheType::kInt8 ? 127.0f : 448.0f;
    for (uint32_t position = 0; position < kCpuPagePositions; ++position) {
      // Of the two heads, the second has ever smaller values, down to those whose scale is subnormal.
      std::vector<float> heads;
      for (const float size : {1.0f + static_cast<float>(position), std::ldexp(1.0f, -static_cast<int>(position % 18))}) {
        for (const float part : {0.3f, -1.0f, 0.01f, 0.0f, 0.77f}) heads.push_back(size * part);
      }
      cache.store_keys(1, 1, position, heads.data());
      cache.store_values(1, 1, position, heads.data());
      for (uint32_t head = 0; head < 2; ++head) {
        for (const bool key : {true, false}) {
          const void* const elements = key ? cache.keys(1, 1, head) : cache.values(1, 1, head);
          const float scale = float_from_half((key ? cache.key_scales(1, 1, head) : cache.value_scales(1, 1, head))[position]);
          const float largest = std::abs(heads[head * 5 + 1]);
          ASSERT_GE(scale * limit, largest);
          ASSERT_LE(scale, largest / limit * 1.001f + 0x1p-24f);
          for (uint32_t i = 0; i < kStride; ++i) {
            const size_t at = key ? (position / 16 * kStride + i) * 16 + position % 16 : position * 16 + i;
            const float code = type == CacheType::kInt8 ? static_cast<float>(static_cast<const int8_t*>(elements)[at])
                                                        : float_from_float8(static_cast<const uint8_t*>(elements)[at]);
            const float expected = i < 5 ? heads[head * 5 + i] : 0.0f;
            const float step = type == CacheType::kInt8 ? 1.0f : std::max(std::abs(code) / 8.0f, 0x1p-9f);
            ASSERT_NEAR(code * scale, expected, 0.5001f * step * scale) << "position " << position << ", element " << i;
          }
        }
      }
    }
  }
}

TEST(CpuCache, BytesOfWhatIsNoNumberHaveAScaleThatIsNone) {
  for (const CacheType type : {CacheType::kFloat8, CacheType::kInt8}) {
    CpuCache cache({.layers = 1, .key_value_heads = 1, .head_width = 3, .pages = 1, .type = type});
    const float heads[][3] = {{1, NAN, 2}, {INFINITY, 0, 0}, {1, 2, -INFINITY}, {0, 0, 0}};
    for (uint32_t position = 0; position < 4; ++position) {
      cache.store_values(0, 0, position, heads[position]);
      EXPECT_EQ(std::isnan(float_from_half(cache.value_scales(0, 0, 0)[position])), position < 3);
    }
    EXPECT_EQ(cache.value_scales(0, 0, 0)[3], 0);
    EXPECT_EQ(static_cast<const uint8_t*>(cache.values(0, 0, 0))[3 * 16], 0);
  }
}

TEST(CpuCache, OneThatCannotBeIsRefused) {
  EXPECT_THROW(
      CpuCache({.layers = 4096, .key_value_heads = 16384, .head_width = 16384, .pages = UINT32_MAX, .type = CacheType::kFloat32}),
      std::bad_alloc);
}

}  // namespace
}  // namespace tritllm
