// Owns the post_processor of tokenizer.json: the tokens that are put before and behind a text. Does not own texts in pairs.
#pragma once

#include <functional>
#include <vector>

#include "text/component.h"
#include "text/vocabulary.h"

namespace tritllm {

struct PostProcessor {
  std::vector<TokenId> prefix, suffix;

  // `component` is the field of tokenizer.json, which may be null.
  static PostProcessor parse(const Component& component, const std::function<bool(TokenId)>& is_known);
};

}  // namespace tritllm
