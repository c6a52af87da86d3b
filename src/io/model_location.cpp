// Owns the shapes of folders in which models lie.
#include "io/model_location.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
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

// Weights that only a model folder has, whatever can be made of them.
bool holds_folder_weights(const std::vector<fs::path>& entries) {
  return std::ranges::any_of(entries, [](const fs::path& entry) {
    constexpr std::string_view kEndings[] = {".safetensors", ".bin", ".pth", ".pt"};
    return std::ranges::find(kEndings, entry.extension().string()) != std::end(kEndings);
  });
}

// Folders of GGUF files often hold the config of the model that these were made from.
bool is_model_folder(const fs::path& folder, const std::vector<fs::path>& entries) {
  if (is_there(folder / kManifestName) || is_there(folder / "adapter_config.json")) return true;
  return is_there(folder / "config.json") && (holds_folder_weights(entries) || gguf_models(folder, entries).empty());
}

// Models in OUT/CONFIG/KIND, where `folder` is OUT or OUT/CONFIG; `file` tells that there is one. Folders on the way to a model
// come from whoever made the outermost one, so that links among them are held to the rules of model_folder.h.
std::vector<fs::path> results(const fs::path& folder, const std::vector<fs::path>& entries, std::string_view kind,
                              std::string_view file) {
  std::vector<fs::path> models;
  const auto add = [&](const std::string& name) {
    if (is_there(folder / name / file) && has_model_folder(folder, name)) models.push_back(folder / name);
  };
  add(std::string(kind));
  for (const fs::path& entry : entries) add(fmt::format("{}/{}", entry.filename().string(), kind));
  return models;
}

// The folder of the revision that the hub's cache holds of a model: snapshots/COMMIT.
std::optional<fs::path> hub_snapshot(const fs::path& folder) {
  if (!is_folder(folder / "snapshots")) return std::nullopt;
  if (is_there(folder / "refs" / "main")) {
    std::string commit = read_model_file(folder, "refs/main", 256);
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r')) commit.pop_back();
    const bool is_plain = !commit.empty() && commit.find('/') == commit.npos && commit.front() != '.';
    if (is_plain && is_folder(folder / "snapshots" / commit) && has_model_folder(folder, "snapshots/" + commit))
      return folder / "snapshots" / commit;
  }
  const std::vector<fs::path> snapshots = entries_of(folder / "snapshots");
  if (snapshots.size() != 1 || !has_model_folder(folder, "snapshots/" + snapshots.front().filename().string())) return std::nullopt;
  return snapshots.front();
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

// Where the hub's own programs keep what they fetch.
std::optional<fs::path> hub_cache() {
  const auto variable = [](const char* name) {
    const char* const value = std::getenv(name);
    return value != nullptr && *value != 0 ? std::optional<fs::path>(value) : std::nullopt;
  };
  if (const auto cache = variable("HF_HUB_CACHE")) return cache;
  if (const auto home = variable("HF_HOME")) return *home / "hub";
  if (const auto home = variable("HOME")) return *home / ".cache" / "huggingface" / "hub";
  return std::nullopt;
}

// What the hub's cache holds of a model, by the model's id.
std::optional<fs::path> cached_model(const fs::path& id) {
  const auto cache = hub_cache();
  const auto name = hub_id(id.string());
  if (!cache || !name) return std::nullopt;
  const size_t slash = name->find('/');
  const fs::path folder = *cache / fmt::format("models--{}--{}", name->substr(0, slash), name->substr(slash + 1));
  return is_folder(folder) ? std::optional(folder) : std::nullopt;
}

[[noreturn]] void refuse_missing(const fs::path& path) {
  const std::string text = path.string();
  const bool may_be_id = hub_id(text) && !is_folder(path.parent_path());
  throw Error(ErrorCode::kNotFound, text, "no such file or folder",
              may_be_id ? "to use a model of the hub, fetch its folder first, for example with 'hf download " + text + "'"
                        : "name a Hugging Face model folder with safetensors weights, or a GGUF file");
}

fs::path locate_in_folder(const fs::path& folder) {
  const std::vector<fs::path> entries = entries_of(folder);
  if (is_model_folder(folder, entries)) return folder;
  if (const auto snapshot = hub_snapshot(folder)) return locate_in_folder(*snapshot);
  if (is_folder(folder / "snapshots")) {
    list_models(folder, "is a model in the hub's cache, of several revisions", entries_of(folder / "snapshots"));
  }
  const std::vector<fs::path> packed = results(folder, entries, "packed", kManifestName);
  if (packed.size() == 1) return packed.front();
  if (packed.size() > 1) list_models(folder, "holds several packed models", packed);
  const std::vector<fs::path> gguf = gguf_models(folder, entries);
  if (gguf.size() == 1) return gguf.front();
  if (gguf.size() > 1) list_models(folder, "holds several GGUF files", gguf);
  std::vector<fs::path> cached, plain;
  for (const fs::path& entry : entries) {
    const std::string name = entry.filename().string();
    if (name.starts_with("models--") && is_folder(entry) && has_model_folder(folder, name)) cached.push_back(entry);
    if (is_there(entry / "config.json") && has_model_folder(folder, name)) plain.push_back(entry);
  }
  if (cached.size() == 1) return locate_in_folder(cached.front());
  if (!cached.empty()) list_models(folder, "is a cache of the hub", cached);
  for (fs::path& model : results(folder, entries, "model", "config.json")) {
    if (std::ranges::find(plain, model) == plain.end()) plain.push_back(std::move(model));
  }
  if (plain.size() == 1) return locate_in_folder(plain.front());
  if (!plain.empty()) list_models(folder, "is not a model folder, but holds some", plain);
  return folder;  // the reader reports what is missing
}

}  // namespace

fs::path locate_model(const fs::path& path) {
  if (is_folder(path)) return locate_in_folder(path);
  if (const auto cached = cached_model(path); cached && !is_there(path)) return locate_in_folder(*cached);
  if (!is_there(path)) refuse_missing(path);
  // A file of a model folder stands for the folder.
  const std::string name = path.filename().string();
  const bool is_part =
      name == "config.json" || name == kManifestName || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
  if (is_part) return path.has_parent_path() ? path.parent_path() : fs::path(".");
  return path;
}

void refuse_git_lfs_pointer(std::string_view contents, const std::string& where) {
  if (!contents.starts_with("version https://git-lfs.github.com/spec/")) return;
  throw Error(ErrorCode::kBadInput, where, "is a Git LFS pointer: the few lines that Git keeps in place of a large file",
              "fetch the file itself, for example with 'git lfs pull' in the folder");
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
