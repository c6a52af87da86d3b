// Owns the model card: front matter, tables, licence duties and how to make the model again. Everything in it follows from the
// manifest and the source, so that equal runs give equal cards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/manifest.h"
#include "io/model_source.h"

namespace tritllm {

// What the card says about where the model comes from.
struct CardFacts {
  std::string source_name;                // folder or file name of the source
  std::optional<std::string> base_model;  // hub id, where known
  std::optional<std::string> license;     // identifier as in the source's card
  std::string options;                    // of the quantize command, beside --model, --configs and --out; empty or " --depth …"
};

CardFacts card_facts(const ModelSource& model, std::string options);

enum class CardKind { kPacked, kPlain };

// weight_file_bytes: of all weight files of the folder that the card stands in.
std::string model_card(CardKind kind, const Manifest& manifest, const CardFacts& facts, uint64_t weight_file_bytes);

}  // namespace tritllm
