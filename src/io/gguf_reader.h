// Owns the walk through GGUF's bytes: little-endian numbers and length-prefixed strings, none of them beyond the end. Does not
// own what the fields mean.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace tritllm {

static_assert(std::endian::native == std::endian::little, "numbers are copied from little-endian files as they are");

class GgufReader {
 public:
  explicit GgufReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint64_t position() const noexcept { return position_; }
  uint64_t left() const noexcept { return bytes_.size() - position_; }

  // Nothing where fewer bytes are left.
  std::optional<std::span<const std::byte>> take(uint64_t count) noexcept {
    if (count > left()) return std::nullopt;
    const auto taken = bytes_.subspan(static_cast<size_t>(position_), static_cast<size_t>(count));
    position_ += count;
    return taken;
  }

  template <typename Number>
  std::optional<Number> number() noexcept {
    const auto taken = take(sizeof(Number));
    if (!taken) return std::nullopt;
    Number value;
    std::memcpy(&value, taken->data(), sizeof(Number));
    return value;
  }

  std::optional<std::string_view> text() noexcept {
    const auto length = number<uint64_t>();
    if (!length) return std::nullopt;
    const auto taken = take(*length);
    if (!taken) return std::nullopt;
    return std::string_view(reinterpret_cast<const char*>(taken->data()), taken->size());
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

}  // namespace tritllm
