// Owns the model card: front matter, tables, licence duties and how to make the model again. Everything in it follows from the
// manifest and from the folder that it stands in, so that equal runs give equal cards. Does not own what licences ask (licences.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/json_fwd.h"
#include "io/manifest.h"
#include "io/model_source.h"

namespace tritllm {

// What the user says of the source; it counts before what the source says of itself.
struct CardWishes {
  std::optional<std::string> name = {};        // what the results are named after: NAME or OWNER/NAME
  std::optional<std::string> base_model = {};  // hub id of the source
  std::optional<std::string> license = {};     // identifier as model cards have it
};

// `options`: as CardFacts has them.
CardFacts card_facts(const ModelSource& model, std::string options, const CardWishes& wishes = {});

enum class CardKind { kPacked, kPlain };

// The folder that a card stands in.
struct CardFolder {
  CardKind kind;
  const Json& config;     // its config.json, or that of the source
  uint64_t weight_bytes;  // of all its weight files
  bool has_chat_template = false;
  bool engine_runs_it = false;
};

std::string model_card(const Manifest& manifest, const CardFolder& folder);

}  // namespace tritllm
