// Owns the model card: front matter, tables, licence duties and how to make the model again. Everything in it follows from the
// manifest and the source, so that equal runs give equal cards.
#pragma once

#include <cstdint>
#include <string>

#include "io/manifest.h"
#include "io/model_source.h"

namespace tritllm {

CardFacts card_facts(const ModelSource& model, std::string options);

enum class CardKind { kPacked, kPlain };

// weight_file_bytes: of all weight files of the folder that the card stands in.
std::string model_card(CardKind kind, const Manifest& manifest, const CardFacts& facts, uint64_t weight_file_bytes);

}  // namespace tritllm
