// The list of element types.
#include "io/element_type.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

namespace tritllm {
namespace {

constexpr int kTypes = static_cast<int>(ElementType::kTQ2_0) + 1;

TEST(ElementType, SafetensorsNamesAndSizes) {
  const std::map<std::string, uint32_t> sizes{{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"U16", 2},     {"I16", 2},     {"U32", 4},
                                              {"I32", 4},  {"U64", 8}, {"I64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F16", 2},
                                              {"BF16", 2}, {"F32", 4}, {"F64", 8}, {"C64", 8}};
  for (const auto& [name, bytes] : sizes) {
    const auto type = element_type_from_safetensors(name);
    ASSERT_TRUE(type.has_value()) << name;
    EXPECT_EQ(layout_of(*type).name, name);
    EXPECT_EQ(layout_of(*type).block_bytes, bytes);
    EXPECT_EQ(layout_of(*type).block_elements, 1u);
  }
  for (const char* const name : {"", "f16", "F4", "F6_E2M3", "F8_E8M0", "Q4_0", "Q6_K", "F16 "}) {
    EXPECT_FALSE(element_type_from_safetensors(name).has_value()) << name;
  }
}

TEST(ElementType, NamesDiffer) {
  std::set<std::string_view> names;
  for (int i = 0; i < kTypes; ++i) names.insert(layout_of(static_cast<ElementType>(i)).name);
  EXPECT_EQ(names.size(), static_cast<size_t>(kTypes));
}

TEST(ElementType, WeightsAreFloatsAndGgufBlocks) {
  const std::set<std::string_view> plain{"F16", "BF16", "F32", "F64"}, block_formats{"Q", "IQ4", "TQ", "MXFP4"};
  for (int i = 0; i < kTypes; ++i) {
    const auto type = static_cast<ElementType>(i);
    const ElementLayout layout = layout_of(type);
    const bool is_block_format = std::ranges::any_of(block_formats, [&](auto prefix) { return layout.name.starts_with(prefix); });
    const bool is_quantised = is_block_format || layout.name.ends_with("with scales");
    EXPECT_EQ(is_quantised_type(type), is_quantised) << layout.name;
    EXPECT_EQ(is_weight_type(type), plain.contains(layout.name) || is_quantised) << layout.name;
    EXPECT_TRUE(!is_quantised || !element_type_from_safetensors(layout.name)) << layout.name;
  }
}

}  // namespace
}  // namespace tritllm
