// Owns the GGUF container (versions 2 and 3, little endian): metadata and tensor table of one file, checked against the bytes
// that are there. Does not own what the keys mean (gguf_model.h), nor the conversion of elements (source_tensor.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/element_type.h"

namespace tritllm {

// The numbers are those of the file.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// One metadata value. Numbers stay in the file's bytes until asked for; strings may be any bytes, valid UTF-8 or not.
struct GgufValue {
  GgufType type;  // of each element where is_array
  bool is_array;
  uint64_t count;                    // 1 for a scalar
  std::span<const std::byte> bytes;  // of all elements, each string with its 8-byte length before it
};

struct GgufTensor {
  std::string_view name;               // valid UTF-8
  std::array<uint64_t, 4> dimensions;  // fastest-varying first, as in the file
  uint32_t dimension_count;
  ElementType type;
  std::span<const std::byte> bytes;
};

// Views into the bytes that it was parsed from, which must outlive it.
class GgufFile {
 public:
  // `where` names the source in errors, usually a path. Nothing is allocated on the word of a declared count: every entry of the
  // tables built here has been seen in the bytes.
  static GgufFile parse(std::span<const std::byte> bytes, std::string where);

  // Adds the tensors of a further part of the same model, whose bytes must outlive this one too.
  void add_part(const GgufFile& part);

  const std::string& where() const noexcept { return where_; }
  const std::vector<GgufTensor>& tensors() const noexcept { return tensors_; }  // in the order of the file's table
  const GgufTensor* find_tensor(std::string_view name) const noexcept;
  bool has(std::string_view key) const noexcept { return metadata_.contains(key); }

  // Values by key; nothing where the key is absent, an Error where the value has another type or is out of range.
  std::optional<uint64_t> integer(std::string_view key, uint64_t most = UINT64_MAX) const;
  std::optional<float> real(std::string_view key) const;  // finite
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string_view> text(std::string_view key) const;                // valid UTF-8
  std::optional<std::vector<std::string_view>> texts(std::string_view key) const;  // each valid UTF-8
  std::optional<std::vector<float>> reals(std::string_view key) const;             // none of them NaN
  std::optional<std::vector<uint64_t>> integers(std::string_view key) const;
  std::optional<std::vector<bool>> booleans(std::string_view key) const;
  bool is_array(std::string_view key) const noexcept;

  // As above, with an Error where the key is absent.
  uint64_t required_integer(std::string_view key, uint64_t most = UINT64_MAX) const;
  std::string_view required_text(std::string_view key) const;

 private:
  friend class GgufParser;
  const GgufValue* find(std::string_view key, bool is_array) const;

  std::string where_;
  std::unordered_map<std::string_view, GgufValue> metadata_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
};

}  // namespace tritllm
