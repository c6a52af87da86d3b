// Fuzzes the reading of GGUF files: container, translation into a model, and elements from both ends of every tensor. Every input
// must give a model or an Error.
#include <algorithm>
#include <array>
#include <span>

#include "core/error.h"
#include "io/gguf_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tritllm;
  try {
    const ModelSource source = translate_gguf(std::as_bytes(std::span(data, size)), "FILE");
    std::array<float, 700> values;  // more than two super-blocks
    for (const SourceTensor& tensor : source.tensors) {
      const uint64_t count = std::min<uint64_t>(values.size(), tensor.elements());
      read_float32(tensor, 0, std::span(values).first(count));
      read_float32(tensor, tensor.elements() - count, std::span(values).first(count));
      if (count > 1) read_float32(tensor, 1, std::span(values).first(count - 1));
      stored_bytes(tensor, tensor.elements() - count, count);
    }
  } catch (const Error&) {
  }
  return 0;
}
