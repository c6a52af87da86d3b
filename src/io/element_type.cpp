#include "io/element_type.h"

#include <array>

namespace tritllm {
namespace {

struct Row {
  ElementType type;
  ElementLayout layout;
};

// In the order of the enumeration, which the static_assert below holds it to.
// clang-format off
constexpr std::array kRows{
    Row{ElementType::kBool, {"BOOL", 1, 1}},      Row{ElementType::kU8, {"U8", 1, 1}},
    Row{ElementType::kI8, {"I8", 1, 1}},          Row{ElementType::kU16, {"U16", 1, 2}},
    Row{ElementType::kI16, {"I16", 1, 2}},        Row{ElementType::kU32, {"U32", 1, 4}},
    Row{ElementType::kI32, {"I32", 1, 4}},        Row{ElementType::kU64, {"U64", 1, 8}},
    Row{ElementType::kI64, {"I64", 1, 8}},        Row{ElementType::kF8E4M3, {"F8_E4M3", 1, 1}},
    Row{ElementType::kF8E5M2, {"F8_E5M2", 1, 1}}, Row{ElementType::kF16, {"F16", 1, 2}},
    Row{ElementType::kBF16, {"BF16", 1, 2}},      Row{ElementType::kF32, {"F32", 1, 4}},
    Row{ElementType::kF64, {"F64", 1, 8}},        Row{ElementType::kC64, {"C64", 1, 8}},
    Row{ElementType::kScaledF8E4M3, {"F8_E4M3 with scales", 1, 1}},
    Row{ElementType::kScaledI8, {"I8 with scales", 1, 1}},
    Row{ElementType::kScaledTritRows, {"four trits in U8 with scales", 1, 1}},
    Row{ElementType::kQ4_0, {"Q4_0", 32, 18}},    Row{ElementType::kQ4_1, {"Q4_1", 32, 20}},
    Row{ElementType::kQ5_0, {"Q5_0", 32, 22}},    Row{ElementType::kQ5_1, {"Q5_1", 32, 24}},
    Row{ElementType::kQ8_0, {"Q8_0", 32, 34}},    Row{ElementType::kIQ4_NL, {"IQ4_NL", 32, 18}},
    Row{ElementType::kMXFP4, {"MXFP4", 32, 17}},  Row{ElementType::kQ2_K, {"Q2_K", 256, 84}},
    Row{ElementType::kQ3_K, {"Q3_K", 256, 110}},  Row{ElementType::kQ4_K, {"Q4_K", 256, 144}},
    Row{ElementType::kQ5_K, {"Q5_K", 256, 176}},  Row{ElementType::kQ6_K, {"Q6_K", 256, 210}},
    Row{ElementType::kIQ4_XS, {"IQ4_XS", 256, 136}},
    Row{ElementType::kTQ1_0, {"TQ1_0", 256, 54}}, Row{ElementType::kTQ2_0, {"TQ2_0", 256, 66}},
};
// clang-format on

constexpr bool rows_follow_enumeration() {
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].type != static_cast<ElementType>(i)) return false;
  }
  return true;
}
static_assert(rows_follow_enumeration());

bool is_scaled(ElementType type) noexcept {
  return type == ElementType::kScaledF8E4M3 || type == ElementType::kScaledI8 || type == ElementType::kScaledTritRows;
}

}  // namespace

ElementLayout layout_of(ElementType type) noexcept { return kRows[static_cast<size_t>(type)].layout; }

std::optional<ElementType> element_type_from_safetensors(std::string_view name) noexcept {
  for (const Row& row : kRows) {
    if (row.layout.block_elements == 1 && row.layout.name == name && !is_scaled(row.type)) return row.type;
  }
  return std::nullopt;
}

bool is_weight_type(ElementType type) noexcept {
  switch (type) {
    case ElementType::kF16:
    case ElementType::kBF16:
    case ElementType::kF32:
    case ElementType::kF64: return true;
    default: return is_quantised_type(type);
  }
}

bool is_quantised_type(ElementType type) noexcept { return is_scaled(type) || layout_of(type).block_elements > 1; }

std::optional<ElementType> scaled_type(ElementType stored) noexcept {
  if (stored == ElementType::kF8E4M3) return ElementType::kScaledF8E4M3;
  if (stored == ElementType::kI8) return ElementType::kScaledI8;
  return std::nullopt;
}

}  // namespace tritllm
