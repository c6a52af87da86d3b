// Owns the fuzz target of sampling/text_grammars.h: any regular expression and any grammar in GBNF ends in an automaton or in an
// Error, and whatever the automaton takes is whole characters. The first byte chooses the notation, the second is the length of a
// walk through the automaton, whose choices are the bytes after it; the rest is the text.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/utf8.h"
#include "sampling/text_grammars.h"

namespace {

void walk(tritllm::ByteAutomaton& automaton, std::string_view choices) {
  std::string text;
  auto state = automaton.start();
  for (const char choice : choices) {
    if (automaton.accepts(state) && !tritllm::is_valid_utf8(text)) std::abort();
    std::vector<uint8_t> next;
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (automaton.step(state, static_cast<uint8_t>(byte)) != tritllm::ByteAutomaton::kDead)
        next.push_back(static_cast<uint8_t>(byte));
    }
    if (next.empty()) return;
    text.push_back(static_cast<char>(next[static_cast<uint8_t>(choice) % next.size()]));
    state = automaton.step(state, static_cast<uint8_t>(text.back()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (size < 2) return 0;
  const size_t length = std::min<size_t>(static_cast<uint8_t>(input[1]), size - 2);
  const std::string_view text = input.substr(2 + length);
  try {
    tritllm::ByteAutomaton automaton(input[0] % 2 == 0 ? tritllm::regex_grammar(text, "fuzz")
                                                       : tritllm::gbnf_grammar(text, "fuzz"));
    walk(automaton, input.substr(2, length));
  } catch (const tritllm::Error&) {
  }
  return 0;
}
