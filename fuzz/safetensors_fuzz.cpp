// Owns the fuzz target of io/safetensors.h: any bytes end in an Error or in tensors that tile the file's data, each range as large
// as its shape and type say.
#include <cstdint>
#include <cstdlib>
#include <unordered_set>

#include "core/checked.h"
#include "core/error.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tritllm;
  SafetensorsHeader header;
  try {
    header = parse_safetensors(std::as_bytes(std::span(data, size)), "fuzz");
  } catch (const Error&) {
    return 0;
  }
  std::unordered_set<std::string> names;
  uint64_t end = header.tensors.empty() ? size : header.tensors.front().offset;
  for (const StoredTensor& tensor : header.tensors) {
    const auto elements = checked_product(tensor.shape);
    if (tensor.offset != end || tensor.bytes > size - end || !names.insert(tensor.name).second) std::abort();
    if (!elements || *elements * layout_of(tensor.type).block_bytes != tensor.bytes) std::abort();
    end += tensor.bytes;
  }
  if (end != size) std::abort();
  return 0;
}
