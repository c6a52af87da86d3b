// Owns the fields of Metaspace, the part of tokenizer.json that writes spaces as a visible mark; the pre-tokenizer and the decoder
// of that name share them.
#pragma once

#include <string>

#include "text/component.h"

namespace tritllm {

enum class PrependScheme { kAlways, kFirst, kNever };

struct MetaspaceFields {
  std::string mark;       // one character
  PrependScheme prepend;  // whether a text that does not start with the mark gets one
  bool split;             // whether each mark starts a word
};

MetaspaceFields parse_metaspace(const Component& component);

}  // namespace tritllm
