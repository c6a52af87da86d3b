// Owns what a model's place on the disk and its README's front matter tell about where it comes from. What a fine-tune says of its
// parent (base_model in its README, _name_or_path in its config) is never taken for the model itself.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace tritllm {

struct SourceIdentity {
  std::string path_name = {};                    // of the folder or file; in the hub's cache the last part of the model's id
  std::optional<std::string> name = {};          // what the model calls itself, else the last part of its hub id
  std::optional<std::string> hub_id = {};        // OWNER/NAME
  std::optional<std::string> revision = {};      // commit on the hub
  std::optional<std::string> license = {};       // identifier as model cards have it
  std::optional<std::string> license_name = {};  // of a licence that has no identifier
  std::optional<std::string> license_link = {};  // an address, or the name of a file of the model
};

// Of a folder with a README (empty where there is none), or of a GGUF file, whose README is not its own.
SourceIdentity source_identity(const std::filesystem::path& path, std::string_view readme);

// A value at the top of a model card's front matter; of a list the first entry, and its `name` where it is an object.
std::optional<std::string> front_matter_value(std::string_view card, std::string_view key);

// OWNER/NAME of a model hub, from that or from its page's address; nothing where the text is something else, such as a title or a
// path.
std::optional<std::string> hub_id(std::string_view text);

}  // namespace tritllm
