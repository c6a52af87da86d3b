// Owns the making of small model folders for tests: safetensors files and the texts beside them.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/half.h"
#include "io/safetensors.h"

namespace tritllm {

inline void write_plainly(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string read_plainly(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

struct TestTensor {
  PlannedTensor planned;
  std::string bytes;
};

inline TestTensor bf16_tensor(std::string name, std::vector<uint64_t> shape, const std::vector<float>& values) {
  std::string bytes(values.size() * 2, '\0');
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = bfloat16_from_float(values[i]);
    std::memcpy(bytes.data() + 2 * i, &bits, 2);
  }
  return {{std::move(name), ElementType::kBF16, std::move(shape)}, std::move(bytes)};
}

inline TestTensor f32_tensor(std::string name, std::vector<uint64_t> shape, const std::vector<float>& values) {
  return {{std::move(name), ElementType::kF32, std::move(shape)},
          std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float))};
}

// A tensor whose contents do not matter.
inline TestTensor filled_tensor(std::string name, ElementType type, std::vector<uint64_t> shape, char byte = 0) {
  PlannedTensor planned{std::move(name), type, std::move(shape)};
  const uint64_t bytes = planned.bytes();
  return {std::move(planned), std::string(bytes, byte)};
}

inline std::string safetensors_text(const std::vector<TestTensor>& tensors,
                                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}}) {
  std::vector<PlannedTensor> planned;
  for (const TestTensor& tensor : tensors) planned.push_back(tensor.planned);
  std::string text = plan_safetensors(planned, metadata).header;
  for (const TestTensor& tensor : tensors) text += tensor.bytes;
  return text;
}

}  // namespace tritllm
