// Owns the token list of a GGUF file as it is written there: texts, kinds, special ids. Does not own how text is cut into tokens
// (gguf_tokenizer.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/gguf.h"
#include "io/gguf_family.h"
#include "io/gguf_tokenizer.h"

namespace tritllm {

// The numbers are those of the file.
enum class GgufTokenKind : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct GgufToken {
  std::string text;  // empty where the id has no text
  GgufTokenKind kind;
};

struct GgufVocabulary {
  std::vector<GgufToken> tokens;                       // by id
  std::unordered_map<std::string_view, uint64_t> ids;  // of the texts above
  GgufTokenIds special;

  bool is_special(uint64_t id) const;
};

GgufVocabulary read_vocabulary(const GgufFile& file, const GgufFamily& family, const GgufDimensions& dimensions,
                               bool is_sentencepiece);

// The pairs to merge, first come first merged; every half and every whole is a token.
using GgufMerges = std::vector<std::pair<std::string_view, std::string_view>>;

// As listed in the file. `vocabulary` and `file` must outlive them.
GgufMerges read_merges(const GgufFile& file, const GgufVocabulary& vocabulary);

// Recovered from the tokens of a SentencePiece vocabulary: every split of a token into two tokens, best rank first.
GgufMerges derive_merges(const GgufFile& file, const GgufVocabulary& vocabulary, GgufSpaces spaces);

}  // namespace tritllm
