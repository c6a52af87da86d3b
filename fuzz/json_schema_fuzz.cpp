// Owns the fuzz target of sampling/json_schema.h: any schema ends in a grammar or in an Error, and whatever the grammar takes is
// JSON. The first byte is the length of a walk through the automaton, whose choices are the bytes after it; the rest is the schema.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "automaton_walk.h"
#include "core/error.h"
#include "core/json.h"
#include "sampling/json_schema.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty()) return 0;
  const size_t length = std::min<size_t>(static_cast<uint8_t>(input[0]), input.size() - 1);
  try {
    const tritllm::Json schema = tritllm::parse_json(input.substr(1 + length), "fuzz");
    tritllm::ByteAutomaton automaton(tritllm::json_schema_grammar({{"", tritllm::JsonView(schema, "fuzz"), ""}}));
    walk(automaton, input.substr(1, length), [](const std::string& taken) { return tritllm::Json::accept(taken); });
  } catch (const tritllm::Error&) {
  }
  return 0;
}
