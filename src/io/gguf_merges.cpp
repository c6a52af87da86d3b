// Owns the recovery of BPE merges from a SentencePiece vocabulary (derive_merges of gguf_vocabulary.h).
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <tuple>

#include "core/error.h"
#include "core/utf8.h"
#include "io/gguf_vocabulary.h"

namespace tritllm {
namespace {

// Every split of a token is looked up, which costs the square of its length. SentencePiece makes tokens of at most 16 characters
// by default and the longest of known vocabularies are runs of a few dozen.
constexpr size_t kLongestToken = 512;

// Known vocabularies have about two splits a token. A file made to have many would take far more memory than it has bytes.
constexpr size_t kMostMergesPerToken = 16;
constexpr size_t kMostMergesBeside = 4096;

struct Merge {
  float rank;  // higher merges first
  uint32_t left_characters, right_characters;
  uint32_t token;
  uint32_t left_bytes;
};

// Tokens that text never turns into: they neither come from a merge nor take part in one.
bool takes_part(GgufTokenKind kind) {
  return kind == GgufTokenKind::kNormal || kind == GgufTokenKind::kUserDefined || kind == GgufTokenKind::kUnused;
}

// Llama's vocabularies rank a token by its score, Gemma's by its place: their scores do not follow the order of merges.
std::vector<float> ranks_of(const GgufFile& file, const GgufVocabulary& vocabulary, GgufSpaces spaces) {
  const size_t count = vocabulary.tokens.size();
  if (spaces == GgufSpaces::kGemma) {
    std::vector<float> ranks(count);
    for (size_t id = 0; id < count; ++id) ranks[id] = -static_cast<float>(id);
    return ranks;
  }
  constexpr std::string_view kKey = "tokenizer.ggml.scores";
  auto scores = file.reals(kKey);
  if (!scores || scores->size() != count) {
    throw Error(ErrorCode::kBadInput, fmt::format("{}: key '{}'", file.where(), kKey), fmt::format("expected {} scores", count));
  }
  return std::move(*scores);
}

void add_splits(const GgufFile& file, const GgufVocabulary& vocabulary, uint32_t id, float rank, std::vector<Merge>& merges) {
  const auto is_part = [&](std::string_view text) {
    const auto found = vocabulary.ids.find(text);
    return found != vocabulary.ids.end() && takes_part(vocabulary.tokens[found->second].kind);
  };
  const std::string_view text = vocabulary.tokens[id].text;
  if (text.size() > kLongestToken) {
    throw Error(ErrorCode::kUnsupported, file.where(), fmt::format("token {} is longer than {} bytes", id, kLongestToken));
  }
  std::vector<uint32_t> cuts;  // between characters
  for (size_t at = utf8_sequence_length(text); at < text.size(); at += utf8_sequence_length(text.substr(at))) {
    cuts.push_back(static_cast<uint32_t>(at));
  }
  const auto characters = static_cast<uint32_t>(cuts.size() + 1);
  for (uint32_t i = 0; i < cuts.size(); ++i) {
    if (is_part(text.substr(0, cuts[i])) && is_part(text.substr(cuts[i]))) {
      merges.push_back({rank, i + 1, characters - i - 1, id, cuts[i]});
    }
  }
}

}  // namespace

GgufMerges derive_merges(const GgufFile& file, const GgufVocabulary& vocabulary, GgufSpaces spaces) {
  const std::vector<float> ranks = ranks_of(file, vocabulary, spaces);
  std::vector<Merge> found;
  for (uint32_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (takes_part(vocabulary.tokens[id].kind)) add_splits(file, vocabulary, id, ranks[id], found);
    if (found.size() > kMostMergesPerToken * vocabulary.tokens.size() + kMostMergesBeside) {
      throw Error(ErrorCode::kUnsupported, file.where(),
                  "the tokens are made of each other in more ways than in any known vocabulary");
    }
  }
  // Among equal ranks, the longer left half first: the order in which transformers recovers the merges of the same vocabulary.
  std::ranges::sort(found, [](const Merge& a, const Merge& b) {
    return std::tuple(-a.rank, b.left_characters, b.right_characters, a.token) <
           std::tuple(-b.rank, a.left_characters, a.right_characters, b.token);
  });
  GgufMerges merges;
  merges.reserve(found.size());
  for (const Merge& merge : found) {
    const std::string_view text = vocabulary.tokens[merge.token].text;
    merges.emplace_back(text.substr(0, merge.left_bytes), text.substr(merge.left_bytes));
  }
  return merges;
}

}  // namespace tritllm
