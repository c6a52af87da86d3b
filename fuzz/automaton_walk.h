// Owns the walk of fuzz targets through an automaton of bytes. Does not own what its texts have to be.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "sampling/byte_grammar.h"

// Goes along bytes that the automaton takes, the choices-th of them each time. Ends the program where it accepts a text that is not
// `valid`.
inline void walk(tritllm::ByteAutomaton& automaton, std::string_view choices,
                 const std::function<bool(const std::string& text)>& valid) {
  std::string text;
  auto state = automaton.start();
  for (const char choice : choices) {
    if (automaton.accepts(state) && !valid(text)) std::abort();
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
