// The key/value cache: every part, layer, slot, head and position has a place of its own.
#include "backend/cpu_cache.h"

#include <gtest/gtest.h>

#include <new>
#include <vector>

#include "core/half.h"

namespace tritllm {
namespace {

constexpr CpuCache::Part kParts[] = {CpuCache::Part::kKeys, CpuCache::Part::kValues};

// A number that no other place has, exact in F16.
float number_of(size_t part, uint32_t layer, uint32_t slot, uint32_t position, uint32_t head, uint32_t element) {
  return static_cast<float>(((((part * 3 + layer) * 2 + slot) * 5 + position) * 2 + head) * 6 + element);
}

class CpuCacheTest : public testing::TestWithParam<CacheType> {};
INSTANTIATE_TEST_SUITE_P(Types, CpuCacheTest, testing::Values(CacheType::kFloat32, CacheType::kFloat16));

TEST_P(CpuCacheTest, NoPlaceOverlapsAnother) {
  const CacheShape shape{.layers = 3, .key_value_heads = 2, .head_width = 6, .slots = 2, .positions = 5, .type = GetParam()};
  CpuCache cache(shape);
  const size_t element = GetParam() == CacheType::kFloat32 ? 4 : 2;
  EXPECT_EQ(cache.bytes(), 2 * 3 * 2 * 2 * 5 * 16 * element);
  const auto for_all = [&](const auto& body) {
    for (size_t part = 0; part < 2; ++part) {
      for (uint32_t layer = 0; layer < 3; ++layer) {
        for (uint32_t slot = 0; slot < 2; ++slot) {
          for (uint32_t position = 0; position < 5; ++position) body(part, layer, slot, position);
        }
      }
    }
  };
  for_all([&](size_t part, uint32_t layer, uint32_t slot, uint32_t position) {
    std::vector<float> heads;
    for (uint32_t i = 0; i < 12; ++i) heads.push_back(number_of(part, layer, slot, position, i / 6, i % 6));
    cache.store(kParts[part], layer, {slot, position}, heads.data());
  });
  for_all([&](size_t part, uint32_t layer, uint32_t slot, uint32_t position) {
    for (uint32_t head = 0; head < 2; ++head) {
      const void* const rows = cache.rows(kParts[part], layer, slot, head, 0);
      for (uint32_t i = 0; i < 16; ++i) {
        const size_t index = position * 16 + i;
        const float found = GetParam() == CacheType::kFloat32 ? static_cast<const float*>(rows)[index]
                                                              : float_from_half(static_cast<const uint16_t*>(rows)[index]);
        ASSERT_EQ(found, i < 6 ? number_of(part, layer, slot, position, head, i) : 0.0f);
      }
      const auto* const later = static_cast<const std::byte*>(cache.rows(kParts[part], layer, slot, head, position));
      ASSERT_EQ(later - static_cast<const std::byte*>(rows), static_cast<std::ptrdiff_t>(position * 16 * element));
    }
  });
}

TEST(CpuCache, HalvesAreRoundedToNearestEven) {
  CpuCache cache({.layers = 1, .key_value_heads = 1, .head_width = 6, .slots = 1, .positions = 1, .type = CacheType::kFloat16});
  // 1 + 2^-11 lies between 1 and 1 + 2^-10, the even one is 1; 1 + 3·2^-11 goes up to 1 + 2^-9.
  const float values[] = {1.0f + 0x1p-11f, 1.0f + 0x3p-11f, -1.0f - 0x1.01p-11f, 65504.0f, 0x1p-24f, 0x1p-25f};
  const uint16_t expected[] = {0x3c00, 0x3c02, 0xbc01, 0x7bff, 0x0001, 0x0000};
  cache.store(CpuCache::Part::kKeys, 0, {0, 0}, values);
  const auto* const found = static_cast<const uint16_t*>(cache.rows(CpuCache::Part::kKeys, 0, 0, 0, 0));
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(found[i], expected[i]) << i;
}

TEST(CpuCache, OneThatCannotBeIsRefused) {
  EXPECT_THROW(CpuCache({.layers = 4096,
                         .key_value_heads = 16384,
                         .head_width = 16384,
                         .slots = 1u << 31,
                         .positions = 1u << 30,
                         .type = CacheType::kFloat32}),
               std::bad_alloc);
}

}  // namespace
}  // namespace tritllm
