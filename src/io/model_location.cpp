// Owns the shapes of folders in which models lie.
#include "io/model_location.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "io/manifest.h"
#include "io/model_folder.h"
#include "io/model_source.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kGguf = ".gguf";
constexpr size_t kMostListed = 12;

bool is_there(const fs::path& path) { return kind_of_target(path) != FileKind::kNothing; }

bool is_folder(const fs::path& path) { return kind_of_target(path) == FileKind::kFolder; }

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  for (const std::string& name : folder_entries(folder)) entries.push_back(folder / name);
  return entries;
}

// The number of a part and how many there are, from NAME-00002-of-00005.gguf.
struct PartName {
  std::string stem;
  uint32_t number, count;
};

std::optional<uint32_t> five_digits(std::string_view text) {
  uint32_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  return text.size() == 5 && status == std::errc() && end == text.data() + 5 ? std::optional(value) : std::nullopt;
}

std::optional<PartName> part_name(const fs::path& path) {
  const std::string name = path.filename().string();
  constexpr size_t kTail = std::string_view("-00001-of-00002.gguf").size();
  if (name.size() <= kTail || !name.ends_with(kGguf)) return std::nullopt;
  const std::string_view tail = std::string_view(name).substr(name.size() - kTail);
  const auto number = five_digits(tail.substr(1, 5)), count = five_digits(tail.substr(10, 5));
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || !number || !count || *number == 0 || *number > *count) return std::nullopt;
  return PartName{name.substr(0, name.size() - kTail), *number, *count};
}

// GGUF files of a folder that are models: every part of a split one but the first is left out.
std::vector<fs::path> gguf_models(const fs::path& folder, const std::vector<fs::path>& entries) {
  std::vector<fs::path> models;
  for (const fs::path& entry : entries) {
    if (entry.extension() != kGguf || is_folder(entry) || !has_model_file(folder, entry.filename().string())) continue;
    if (const auto part = part_name(entry); part && part->number != 1) continue;
    models.push_back(entry);
  }
  return models;
}

bool is_model_folder(const fs::path& folder) {
  for (const std::string_view name : {std::string_view("config.json"), kManifestName, std::string_view("adapter_config.json")}) {
    if (is_there(folder / name)) return true;
  }
  return false;
}

// Packed models in OUT/CONFIG/packed, where `folder` is OUT or OUT/CONFIG.
std::vector<fs::path> packed_models(const fs::path& folder, const std::vector<fs::path>& entries) {
  std::vector<fs::path> models;
  if (is_there(folder / "packed" / kManifestName)) models.push_back(folder / "packed");
  for (const fs::path& entry : entries) {
    if (is_there(entry / "packed" / kManifestName)) models.push_back(entry / "packed");
  }
  return models;
}

// The folder of the revision that the hub's cache holds of a model: snapshots/COMMIT.
std::optional<fs::path> hub_snapshot(const fs::path& folder) {
  if (!is_folder(folder / "snapshots")) return std::nullopt;
  if (is_there(folder / "refs" / "main")) {
    std::string commit = read_model_file(folder, "refs/main", 256);
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r')) commit.pop_back();
    const bool is_plain = !commit.empty() && commit.find('/') == commit.npos && commit.front() != '.';
    if (is_plain && is_folder(folder / "snapshots" / commit)) return folder / "snapshots" / commit;
  }
  const std::vector<fs::path> snapshots = entries_of(folder / "snapshots");
  if (snapshots.size() == 1) return snapshots.front();
  return std::nullopt;
}

[[noreturn]] void list_models(const fs::path& folder, std::string_view problem, const std::vector<fs::path>& models) {
  std::vector<std::string> names;
  for (const fs::path& model : models) {
    if (names.size() == kMostListed) {
      names.push_back("…");
      break;
    }
    names.push_back(printable(model.string()));
  }
  throw Error(ErrorCode::kUsage, folder.string(), problem, fmt::format("name one of them: {}", fmt::join(names, ", ")));
}

[[noreturn]] void refuse_missing(const fs::path& path) {
  const std::string text = path.string();
  const bool may_be_id = hub_id(text) && !path.has_extension() && !is_folder(path.parent_path());
  throw Error(ErrorCode::kNotFound, text, "no such file or folder",
              may_be_id ? "to use a model of the hub, fetch its folder first, for example with 'hf download " + text + "'"
                        : "name a Hugging Face model folder with safetensors weights, or a GGUF file");
}

fs::path locate_in_folder(const fs::path& folder) {
  if (is_model_folder(folder)) return folder;
  const std::vector<fs::path> entries = entries_of(folder);
  if (const auto snapshot = hub_snapshot(folder)) return *snapshot;
  if (is_folder(folder / "snapshots")) {
    list_models(folder, "is a model in the hub's cache, of several revisions", entries_of(folder / "snapshots"));
  }
  const std::vector<fs::path> packed = packed_models(folder, entries);
  if (packed.size() == 1) return packed.front();
  if (packed.size() > 1) list_models(folder, "holds several packed models", packed);
  const std::vector<fs::path> gguf = gguf_models(folder, entries);
  if (gguf.size() == 1) return gguf.front();
  if (gguf.size() > 1) list_models(folder, "holds several GGUF files", gguf);
  std::vector<fs::path> cached, plain;
  for (const fs::path& entry : entries) {
    if (entry.filename().string().starts_with("models--") && is_folder(entry)) cached.push_back(entry);
    if (is_there(entry / "config.json")) plain.push_back(entry);
  }
  if (!cached.empty()) list_models(folder, "is a cache of the hub", cached);
  if (!plain.empty()) list_models(folder, "is not a model folder, but holds some", plain);
  return folder;  // the reader reports what is missing
}

}  // namespace

fs::path locate_model(const fs::path& path) {
  if (is_folder(path)) return locate_in_folder(path);
  if (is_there(path)) return path;
  refuse_missing(path);
}

std::vector<fs::path> gguf_parts(const fs::path& path) {
  const auto named = part_name(path);
  if (!named || named->count == 1) return {path};
  std::vector<fs::path> parts;
  for (uint32_t number = 1; number <= named->count; ++number) {
    parts.push_back(path.parent_path() / fmt::format("{}-{:05}-of-{:05}{}", named->stem, number, named->count, kGguf));
    // The named part may be a link to wherever its owner keeps it; the others are found by their names alone.
    const bool is_named = parts.back() == path;
    const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    if (is_named ? is_there(path) : has_model_file(folder, parts.back().filename().string())) continue;
    throw Error(ErrorCode::kNotFound, parts.back().string(),
                fmt::format("is missing: {} is one of {} parts of a model", printable(path.filename().string()), named->count),
                "fetch all parts into one folder");
  }
  return parts;
}

}  // namespace tritllm
