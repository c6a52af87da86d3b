// Owns the typed look-ups of GgufFile (gguf.h). Does not own the parsing of the container (gguf.cpp).
#include <fmt/format.h>

#include <cmath>
#include <cstdint>

#include "core/error.h"
#include "core/utf8.h"
#include "io/gguf.h"
#include "io/gguf_reader.h"

namespace tritllm {
namespace {

Error wrong_value(const std::string& where, std::string_view key, std::string_view problem) {
  return Error(ErrorCode::kBadInput, fmt::format("{}: key '{}'", where, printable(key)), problem);
}

template <typename Stored>
Stored stored(const GgufValue& value, uint64_t index) {
  Stored number;
  std::memcpy(&number, value.bytes.data() + index * sizeof(Stored), sizeof(Stored));
  return number;
}

// Nothing where the element is negative or no integer at all.
template <typename Stored>
std::optional<uint64_t> whole(Stored number) {
  if (number < 0) return std::nullopt;
  return static_cast<uint64_t>(number);
}

std::optional<uint64_t> integer_at(const GgufValue& value, uint64_t index) {
  switch (value.type) {
    case GgufType::kU8: return stored<uint8_t>(value, index);
    case GgufType::kU16: return stored<uint16_t>(value, index);
    case GgufType::kU32: return stored<uint32_t>(value, index);
    case GgufType::kU64: return stored<uint64_t>(value, index);
    case GgufType::kI8: return whole(stored<int8_t>(value, index));
    case GgufType::kI16: return whole(stored<int16_t>(value, index));
    case GgufType::kI32: return whole(stored<int32_t>(value, index));
    case GgufType::kI64: return whole(stored<int64_t>(value, index));
    default: return std::nullopt;
  }
}

std::optional<float> real_at(const GgufValue& value, uint64_t index) {
  switch (value.type) {
    case GgufType::kF32: return stored<float>(value, index);
    case GgufType::kF64: return static_cast<float>(stored<double>(value, index));
    default: return std::nullopt;
  }
}

}  // namespace

const GgufValue* GgufFile::find(std::string_view key, bool is_array) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return nullptr;
  if (found->second.is_array != is_array) {
    throw wrong_value(where_, key, is_array ? "expected an array, found one value" : "expected one value, found an array");
  }
  return &found->second;
}

bool GgufFile::is_array(std::string_view key) const noexcept {
  const auto found = metadata_.find(key);
  return found != metadata_.end() && found->second.is_array;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const noexcept {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

std::optional<uint64_t> GgufFile::integer(std::string_view key, uint64_t most) const {
  const GgufValue* const value = find(key, false);
  if (!value) return std::nullopt;
  const auto number = integer_at(*value, 0);
  if (!number || *number > most) throw wrong_value(where_, key, fmt::format("expected a whole number from 0 to {}", most));
  return number;
}

std::optional<float> GgufFile::real(std::string_view key) const {
  const GgufValue* const value = find(key, false);
  if (!value) return std::nullopt;
  const auto number = real_at(*value, 0);
  if (!number || !std::isfinite(*number)) throw wrong_value(where_, key, "expected a finite floating-point number");
  return number;
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const GgufValue* const value = find(key, false);
  if (!value) return std::nullopt;
  if (value->type != GgufType::kBool) throw wrong_value(where_, key, "expected a truth value");
  return value->bytes[0] == std::byte{1};
}

std::optional<std::string_view> GgufFile::text(std::string_view key) const {
  const GgufValue* const value = find(key, false);
  if (!value) return std::nullopt;
  if (value->type != GgufType::kString) throw wrong_value(where_, key, "expected a string");
  const std::string_view text = *GgufReader(value->bytes).text();
  if (!is_valid_utf8(text)) throw wrong_value(where_, key, "the string is not valid UTF-8");
  return text;
}

std::optional<std::vector<std::string_view>> GgufFile::texts(std::string_view key) const {
  const GgufValue* const value = find(key, true);
  if (!value) return std::nullopt;
  if (value->type != GgufType::kString) throw wrong_value(where_, key, "expected an array of strings");
  std::vector<std::string_view> texts;
  texts.reserve(value->count);
  GgufReader reader(value->bytes);
  for (uint64_t i = 0; i < value->count; ++i) {
    texts.push_back(*reader.text());
    if (!is_valid_utf8(texts.back())) throw wrong_value(where_, key, fmt::format("string {} is not valid UTF-8", i));
  }
  return texts;
}

std::optional<std::vector<float>> GgufFile::reals(std::string_view key) const {
  const GgufValue* const value = find(key, true);
  if (!value) return std::nullopt;
  std::vector<float> numbers(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto number = real_at(*value, i);
    if (!number || std::isnan(*number)) throw wrong_value(where_, key, "expected an array of floating-point numbers");
    numbers[i] = *number;
  }
  return numbers;
}

std::optional<std::vector<uint64_t>> GgufFile::integers(std::string_view key) const {
  const GgufValue* const value = find(key, true);
  if (!value) return std::nullopt;
  std::vector<uint64_t> numbers(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto number = integer_at(*value, i);
    if (!number) throw wrong_value(where_, key, "expected an array of whole numbers, none of them negative");
    numbers[i] = *number;
  }
  return numbers;
}

std::optional<std::vector<bool>> GgufFile::booleans(std::string_view key) const {
  const GgufValue* const value = find(key, true);
  if (!value) return std::nullopt;
  if (value->type != GgufType::kBool) throw wrong_value(where_, key, "expected an array of truth values");
  std::vector<bool> truths(value->count);
  for (uint64_t i = 0; i < value->count; ++i) truths[i] = value->bytes[i] == std::byte{1};
  return truths;
}

uint64_t GgufFile::required_integer(std::string_view key, uint64_t most) const {
  if (const auto number = integer(key, most)) return *number;
  throw Error(ErrorCode::kBadInput, where_, fmt::format("the key '{}' is missing", key));
}

std::string_view GgufFile::required_text(std::string_view key) const {
  if (const auto found = text(key)) return *found;
  throw Error(ErrorCode::kBadInput, where_, fmt::format("the key '{}' is missing", key));
}

}  // namespace tritllm
