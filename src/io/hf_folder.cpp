#include "io/hf_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "core/file.h"
#include "core/utf8.h"
#include "io/manifest.h"
#include "io/safetensors.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kLargestConfig = uint64_t{16} << 20;
constexpr uint64_t kLargestSideFile = uint64_t{256} << 20;
constexpr size_t kLongestSideFileName = 240;  // leaves room for the ending that a file has while it is written
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos && is_valid_utf8(name);
}

// The name belongs to text that goes with a model. Weights of other formats and programs are left behind.
bool is_side_file(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kEndings{".json", ".jinja", ".txt", ".model", ".tiktoken"};
  static constexpr std::array<std::string_view, 5> kStarts{"LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING"};
  if (name == "config.json" || name == kManifestName || name.ends_with(".index.json")) return false;
  const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
  const auto starts = [&](std::string_view start) { return name.starts_with(start); };
  return std::any_of(kEndings.begin(), kEndings.end(), ends) || std::any_of(kStarts.begin(), kStarts.end(), starts);
}

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> entries;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) entries.push_back(it->path());
  if (error) throw io_error(folder.string(), "list the folder", error.value());
  std::sort(entries.begin(), entries.end());
  return entries;
}

void add_side_files(const fs::path& folder, const std::string& prefix, std::vector<SideFile>& files) {
  for (const fs::path& entry : sorted_entries(folder)) {
    const std::string name = entry.filename().string();
    std::error_code error;
    if (!is_plain_file_name(name) || !is_side_file(name) || !fs::is_regular_file(entry, error)) continue;
    if (prefix.size() + name.size() > kLongestSideFileName) {
      throw Error(ErrorCode::kBadInput, entry.string(),
                  fmt::format("expected a file name of at most {} bytes", kLongestSideFileName - prefix.size()),
                  "rename or remove the file");
    }
    files.push_back({prefix + name, read_text_file(entry, kLargestSideFile)});
  }
}

std::vector<std::string> weight_files(const fs::path& folder, std::unordered_map<std::string, std::string>& expected_places) {
  std::error_code error;
  if (fs::exists(folder / kIndexName, error)) {
    const fs::path index = folder / kIndexName;
    WeightMap map = parse_weight_map(read_text_file(index, kLargestSafetensorsHeader), index.string());
    for (auto& [tensor, file] : map.tensors) expected_places.emplace(std::move(tensor), std::move(file));
    return map.files;
  }
  if (fs::exists(folder / kSingleName, error)) return {std::string(kSingleName)};
  throw Error(ErrorCode::kNotFound, folder.string(), fmt::format("found neither {} nor {}", kSingleName, kIndexName),
              "name a Hugging Face model folder with safetensors weights, or a GGUF file");
}

// Adds the tensors of one weight file; with an index, the file must hold exactly the tensors that the index places there.
void add_weight_file(const fs::path& path, const std::string& name,
                     const std::unordered_map<std::string, std::string>& expected_places, std::unordered_set<std::string>& seen,
                     ModelSource& model) {
  MappedFile file = MappedFile::open(path);
  SafetensorsHeader header = parse_safetensors(file.bytes(), path.string());
  for (StoredTensor& stored : header.tensors) {
    std::string place = fmt::format("{}: tensor '{}'", path.string(), printable(stored.name));
    if (!seen.insert(stored.name).second) {
      throw Error(ErrorCode::kBadInput, place, "the same tensor stands in two files", "remove the file that does not belong here");
    }
    if (!expected_places.empty()) {
      const auto expected = expected_places.find(stored.name);
      if (expected == expected_places.end() || expected->second != name) {
        throw Error(ErrorCode::kBadInput, place, fmt::format("the index {} does not place it in this file", kIndexName),
                    "fetch the folder again, all files of one revision");
      }
    }
    model.tensors.push_back({.name = std::move(stored.name),
                             .shape = std::move(stored.shape),
                             .type = stored.type,
                             .bytes = file.bytes().subspan(stored.offset, stored.bytes),
                             .place = std::move(place)});
  }
  model.files.push_back(std::move(file));
}

void check_all_found(const fs::path& folder, const std::unordered_map<std::string, std::string>& expected_places,
                     const std::unordered_set<std::string>& seen) {
  for (const auto& [tensor, file] : expected_places) {
    if (seen.contains(tensor)) continue;
    throw Error(ErrorCode::kBadInput, (folder / file).string(),
                fmt::format("the index expects the tensor '{}' here, but the file does not hold it", printable(tensor)),
                "fetch the folder again, all files of one revision");
  }
}

void add_warnings(const fs::path& folder, ModelSource& model) {
  for (const fs::path& entry : sorted_entries(folder)) {
    if (entry.extension() == ".py") {
      model.warnings.push_back("Python files in the model folder are neither run nor copied");
      return;
    }
  }
}

}  // namespace

WeightMap parse_weight_map(std::string_view text, const std::string& where) {
  const Json index = parse_json(text, where);
  const Json& map = json_field(index, "weight_map", where);
  if (!map.is_object() || map.empty()) throw Error(ErrorCode::kBadInput, where, "expected an object with tensors as weight_map");
  WeightMap parsed;
  std::unordered_set<std::string> known;
  for (const auto& [tensor, file] : map.items()) {
    if (!file.is_string() || !is_plain_file_name(file.get_ref<const std::string&>())) {
      throw Error(ErrorCode::kBadInput, where,
                  fmt::format("weight_map: expected the plain name of a file for '{}'", printable(tensor)));
    }
    const auto& name = file.get_ref<const std::string&>();
    if (known.insert(name).second) parsed.files.push_back(name);
    parsed.tensors.emplace_back(tensor, name);
  }
  return parsed;
}

std::vector<SideFile> read_side_files(const fs::path& folder) {
  std::vector<SideFile> files;
  add_side_files(folder, "", files);
  std::error_code error;
  if (fs::is_directory(folder / "additional_chat_templates", error)) {
    add_side_files(folder / "additional_chat_templates", "additional_chat_templates/", files);
  }
  return files;
}

std::optional<std::string> front_matter_value(std::string_view card, std::string_view key) {
  if (!card.starts_with("---\n")) return std::nullopt;
  card.remove_prefix(4);
  card = card.substr(0, card.find("\n---"));
  while (!card.empty()) {
    const size_t end = card.find('\n');
    const std::string_view line = card.substr(0, end);
    card.remove_prefix(end == card.npos ? card.size() : end + 1);
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ':') continue;
    std::string_view value = line.substr(key.size() + 1);
    const auto is_trimmed = [](char c) { return c == ' ' || c == '"' || c == '\'' || c == '\r' || c == '\t'; };
    while (!value.empty() && is_trimmed(value.front())) value.remove_prefix(1);
    while (!value.empty() && is_trimmed(value.back())) value.remove_suffix(1);
    if (value.empty() || value.size() > 200 || !is_valid_utf8(value)) return std::nullopt;
    return std::string(value);
  }
  return std::nullopt;
}

ModelSource open_hf_folder(const fs::path& folder) {
  ModelSource model;
  model.path = folder;
  model.kind = "hf_folder";
  const fs::path config = folder / "config.json";
  model.config = parse_json(read_text_file(config, kLargestConfig), config.string());
  if (!model.config.is_object()) throw Error(ErrorCode::kBadInput, config.string(), "expected a JSON object");
  std::unordered_map<std::string, std::string> expected_places;
  std::unordered_set<std::string> seen;
  for (const std::string& name : weight_files(folder, expected_places)) {
    add_weight_file(folder / name, name, expected_places, seen, model);
  }
  check_all_found(folder, expected_places, seen);
  if (model.tensors.empty()) throw Error(ErrorCode::kBadInput, folder.string(), "the weight files hold no tensors");
  model.side_files = read_side_files(folder);
  std::error_code error;
  if (fs::is_regular_file(folder / "README.md", error)) model.card = read_text_file(folder / "README.md", kLargestConfig);
  model.license = front_matter_value(model.card, "license");
  if (const auto origin = json_optional_string(model.config, "_name_or_path", config.string())) model.base_model = hub_id(*origin);
  add_warnings(folder, model);
  return model;
}

}  // namespace tritllm
