// Owns the making of GGUF files for tests, well-formed by default and wrong in any one place on request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tritllm {

// The numbers of the file format, written here once more so that a mistake in the parser's table shows.
enum : uint32_t {
  kFileU8,
  kFileI8,
  kFileU16,
  kFileI16,
  kFileU32,
  kFileI32,
  kFileF32,
  kFileBool,
  kFileString,
  kFileArray,
  kFileU64,
  kFileI64,
  kFileF64
};

class GgufBuilder {
 public:
  uint32_t magic = 0x46554747, version = 3;
  uint64_t alignment = 32;
  uint64_t extra_entries = 0, extra_tensors = 0;  // declared, but not there

  struct Tensor {
    std::string name;
    std::vector<uint64_t> dimensions;  // fastest first
    uint32_t type;
    std::string data;
    std::int64_t offset = -1;  // −1: where it follows the one before
  };
  std::vector<Tensor> tensors;

  template <typename Number>
  static std::string number(Number value) {
    return {reinterpret_cast<const char*>(&value), sizeof(value)};
  }
  static std::string text(std::string_view value) { return number<uint64_t>(value.size()).append(value); }

  GgufBuilder& entry(std::string_view key, uint32_t type, std::string_view payload) {
    entries_.append(text(key)).append(number(type)).append(payload);
    ++entry_count_;
    return *this;
  }
  GgufBuilder& add_text(std::string_view key, std::string_view value) { return entry(key, kFileString, text(value)); }
  GgufBuilder& add_u32(std::string_view key, uint32_t value) { return entry(key, kFileU32, number(value)); }
  GgufBuilder& add_f32(std::string_view key, float value) { return entry(key, kFileF32, number(value)); }
  GgufBuilder& add_bool(std::string_view key, bool value) { return entry(key, kFileBool, number<uint8_t>(value)); }
  GgufBuilder& add_texts(std::string_view key, const std::vector<std::string>& values) {
    std::string payload;
    for (const std::string& value : values) payload.append(text(value));
    return add_array(key, kFileString, values.size(), payload);
  }
  GgufBuilder& add_i32s(std::string_view key, const std::vector<int32_t>& values) {
    return add_array(key, kFileI32, values.size(), {reinterpret_cast<const char*>(values.data()), values.size() * 4});
  }
  GgufBuilder& add_f32s(std::string_view key, const std::vector<float>& values) {
    return add_array(key, kFileF32, values.size(), {reinterpret_cast<const char*>(values.data()), values.size() * 4});
  }
  GgufBuilder& add_array(std::string_view key, uint32_t type, uint64_t count, std::string_view payload) {
    return entry(key, kFileArray, number(type).append(number(count)).append(payload));
  }
  GgufBuilder& add_f32_tensor(std::string_view name, std::vector<uint64_t> dimensions, float value = 0.5f) {
    uint64_t count = 1;
    for (const uint64_t dimension : dimensions) count *= dimension;
    const std::vector<float> values(count, value);
    tensors.push_back({std::string(name), std::move(dimensions), 0, {reinterpret_cast<const char*>(values.data()), count * 4}});
    return *this;
  }

  std::string build() const {
    std::string file = number(magic).append(number(version));
    file.append(number(tensors.size() + extra_tensors)).append(number(entry_count_ + extra_entries)).append(entries_);
    std::string data;
    for (const Tensor& tensor : tensors) {
      pad(data);
      file.append(text(tensor.name)).append(number(static_cast<uint32_t>(tensor.dimensions.size())));
      for (const uint64_t dimension : tensor.dimensions) file.append(number(dimension));
      const uint64_t offset = tensor.offset < 0 ? data.size() : static_cast<uint64_t>(tensor.offset);
      file.append(number(tensor.type)).append(number(offset));
      data.append(tensor.data);
    }
    pad(file);
    return file.append(data);
  }

 private:
  void pad(std::string& bytes) const { bytes.resize((bytes.size() + alignment - 1) / alignment * alignment); }

  std::string entries_;
  uint64_t entry_count_ = 0;
};

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

}  // namespace tritllm
