// Owns the fuzz target of core/json.h: any bytes end in a document or in an Error, and what was read can be written and read again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "core/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tritllm::Json document;
  try {
    document = tritllm::parse_json(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz");
  } catch (const tritllm::Error&) {
    return 0;
  }
  if (tritllm::parse_json(tritllm::json_text(document), "fuzz again") != document) std::abort();
  return 0;
}
