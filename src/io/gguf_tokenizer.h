// Owns the tokenizer of a GGUF file, written as the files of an HF folder: tokenizer.json, tokenizer_config.json and
// special_tokens_map.json. Does not own tokenising (src/text reads those files as from any folder).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "io/gguf.h"
#include "io/gguf_family.h"

namespace tritllm {

// Each the id of a token that has a text.
struct GgufTokenIds {
  std::optional<uint64_t> bos, eos, unknown, pad;
  std::vector<uint64_t> ends;  // eos first, then the other tokens that end a turn
};

struct GgufTokenizer {
  GgufTokenIds ids;
  Json tokenizer, tokenizer_config, special_tokens_map;
  std::vector<std::string> warnings;
};

GgufTokenizer read_tokenizer(const GgufFile& file, const GgufFamily& family, const GgufDimensions& dimensions);

}  // namespace tritllm
