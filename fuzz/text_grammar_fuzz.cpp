// Owns the fuzz target of sampling/text_grammars.h: any regular expression and any grammar in GBNF ends in an automaton or in an
// Error, and whatever the automaton takes is whole characters. The first byte chooses the notation, the second is the length of a
// walk through the automaton, whose choices are the bytes after it; the rest is the text.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "automaton_walk.h"
#include "core/error.h"
#include "core/utf8.h"
#include "sampling/text_grammars.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (size < 2) return 0;
  const size_t length = std::min<size_t>(static_cast<uint8_t>(input[1]), size - 2);
  const std::string_view text = input.substr(2 + length);
  try {
    tritllm::ByteAutomaton automaton(input[0] % 2 == 0 ? tritllm::regex_grammar(text, "fuzz")
                                                       : tritllm::gbnf_grammar(text, "fuzz"));
    walk(automaton, input.substr(2, length), [](const std::string& taken) { return tritllm::is_valid_utf8(taken); });
  } catch (const tritllm::Error&) {
  }
  return 0;
}
