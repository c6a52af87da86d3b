// Owns what is known of the licences of models: how to recognise one, and what it asks of those who pass a derived model on. Does
// not own the card that says it (model_card.h). Nothing here is legal advice; what is not known is left to the reader.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_source.h"

namespace tritllm {

struct Licence {
  std::string_view id;                // of model cards: "llama3.1"; "other" where it has none
  std::string_view name;              // what license_name has
  std::string_view title;             // in words
  std::string_view link = "";         // the licensor's page
  std::string_view mark;              // capitals that stand in its text, and in that of no later row
  std::string_view attribution = "";  // shown first in the card
  std::string_view notice = "";       // the line of the Notice file
  std::string_view commercial;        // a sentence about commercial use
  std::string_view policy_link = "";  // an acceptable use policy
  std::string_view name_prefix = "";  // every name of a derived model must begin with it
  std::string_view owner = "";        // of the licensor's models on the hub, which hold the text as…
  std::string_view hub_file = "";     // …this file
  bool is_gated = false;              // downloads usually ask for consent
};

// By the identifier of a model card, and where that is "other" or missing, by its license_name. nullptr: not known.
const Licence* find_licence(const std::optional<std::string>& id, const std::optional<std::string>& name);

// By its text.
const Licence* recognise_licence(std::string_view text);

// The file that holds the licence's text; nullptr where there is none.
const SideFile* licence_file(const std::vector<SideFile>& files);

// The files with what the licence wants to be in a Notice file: as they are where one has it, else with a line or a file more.
std::vector<SideFile> with_notice(std::vector<SideFile> files, const Licence* licence);

}  // namespace tritllm
