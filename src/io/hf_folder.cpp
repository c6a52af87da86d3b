// Owns the rules of a model folder: which files hold its weights, which go with it, and what it says of itself.
#include "io/hf_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/utf8.h"
#include "io/manifest.h"
#include "io/model_location.h"
#include "io/quantised_source.h"
#include "io/safetensors.h"
#include "io/tied_head.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kLargestConfig = uint64_t{4} << 20;  // of a tree of JSON values this makes 150 MB
constexpr size_t kMostTensors = 1'000'000;
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
  static constexpr std::array<std::string_view, 6> kStarts{"LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "USE-POLICY", "COPYING"};
  if (name == "config.json" || name == kManifestName || name.ends_with(".index.json")) return false;
  const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
  const std::string capitals = ascii_capitals(name);
  const auto starts = [&](std::string_view start) { return capitals.starts_with(start); };
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
    refuse_git_lfs_pointer(files.back().contents, entry.string());
  }
}

// Each tensor's file, as the index has it.
using ExpectedPlaces = std::unordered_map<std::string, std::string>;

[[noreturn]] void refuse_folder(const fs::path& folder, std::string_view problem, std::string_view remedy) {
  throw Error(ErrorCode::kNotFound, folder.string(), problem, remedy);
}

// Says what a folder without safetensors weights of the usual names holds instead.
[[noreturn]] void explain_missing_weights(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / kManifestName, error)) {
    refuse_folder(folder, "is a packed checkpoint, whose weights are ternary already",
                  "name the model that it was made from, or dequantise it first");
  }
  std::vector<std::string> pickles, others;
  for (const fs::path& entry : sorted_entries(folder)) {
    const std::string name = entry.filename().string();
    if (fs::is_symlink(entry, error) && !fs::exists(entry, error) && (name == kSingleName || name == kIndexName)) {
      refuse_folder(entry, fmt::format("is a link to {}, which is not there", printable(fs::read_symlink(entry, error).string())),
                    "fetch the model again: a download may have been interrupted, or its files were moved");
    }
    if (name.ends_with(".bin") || name.ends_with(".pth") || name.ends_with(".pt") || name.ends_with(".ckpt"))
      pickles.push_back(name);
    if (name.ends_with(".safetensors") && !name.starts_with("adapter_")) others.push_back(name);
  }
  const std::string missing = fmt::format("found neither {} nor {}", kSingleName, kIndexName);
  if (!others.empty()) {
    refuse_folder(folder, fmt::format("{}, but {}", missing, printable(others.front())),
                  others.size() == 1 ? fmt::format("rename it to {} if it holds the whole model", kSingleName)
                                     : fmt::format("fetch {} as well: it says which tensor is in which file", kIndexName));
  }
  if (!pickles.empty()) {
    refuse_folder(folder,
                  fmt::format("{}, but weights of PyTorch's own format ({}), which may run programs when they are read", missing,
                              printable(pickles.front())),
                  "fetch a safetensors copy, or convert them: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW) in "
                  "Python");
  }
  refuse_folder(folder, missing, "name a Hugging Face model folder with safetensors weights, or a GGUF file");
}

// An adapter changes what the model next to it computes. Without one, it is not a model.
void refuse_adapter(const fs::path& folder) {
  const fs::path config = folder / "adapter_config.json";
  std::error_code error;
  if (!fs::exists(config, error)) return;
  const Json settings = parse_python_json(read_text_file(config, kLargestConfig), config.string());
  const JsonView view(settings, config.string());
  const auto base = settings.is_object() ? view.optional_text("base_model_name_or_path") : std::nullopt;
  throw Error(
      ErrorCode::kUnsupported, config.string(),
      base ? fmt::format("the folder holds an adapter for '{}'", printable(*base)) : "the folder holds an adapter",
      "merge it into the model first (PeftModel.merge_and_unload and save_pretrained in Python), or remove the adapter's files");
}

// As in transformers, model.safetensors counts before an index.
std::vector<std::string> weight_files(const fs::path& folder, ExpectedPlaces& expected_places, std::vector<std::string>& warnings) {
  std::error_code error;
  const bool has_index = fs::exists(folder / kIndexName, error);
  if (fs::exists(folder / kSingleName, error)) {
    if (has_index) {
      warnings.push_back(fmt::format("{} is read; {} next to it and the files that it lists are not, as in transformers",
                                     (folder / kSingleName).string(), kIndexName));
    }
    return {std::string(kSingleName)};
  }
  if (!has_index) explain_missing_weights(folder);
  const fs::path index = folder / kIndexName;
  WeightMap map = parse_weight_map(read_text_file(index, kLargestSafetensorsHeader), index.string());
  for (const std::string& file : map.files) {
    if (!fs::exists(folder / file, error)) {
      throw Error(ErrorCode::kNotFound, (folder / file).string(), fmt::format("is missing, but {} lists it", kIndexName),
                  "fetch the file, or the whole folder again, all files of one revision");
    }
  }
  for (auto& [tensor, file] : map.tensors) expected_places.emplace(std::move(tensor), std::move(file));
  return map.files;
}

// Adds the tensors of one weight file; with an index, the file must hold exactly the tensors that the index places there.
void add_weight_file(const fs::path& path, const std::string& name, const ExpectedPlaces& expected_places,
                     std::unordered_set<std::string>& seen, ModelSource& model) {
  MappedFile file = MappedFile::open(path);
  SafetensorsHeader header = parse_safetensors(file.bytes(), path.string());
  for (StoredTensor& stored : header.tensors) {
    std::string place = fmt::format("{}: tensor '{}'", path.string(), printable(stored.name));
    if (!seen.insert(stored.name).second) {
      throw Error(ErrorCode::kBadInput, place, "the tensor is in another weight file too",
                  "remove the file that does not belong here");
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

void check_all_found(const fs::path& folder, const ExpectedPlaces& expected_places, const std::unordered_set<std::string>& seen) {
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
  WeightMap parsed;
  std::unordered_set<std::string> known, tensors;
  // One entry at a time: a tree of a large index would take some forty times its bytes.
  const auto take = [&](size_t, std::string& tensor, const Json& file) {
    if (!file.is_string() || !is_plain_file_name(file.get_ref<const std::string&>())) {
      throw Error(ErrorCode::kBadInput, where,
                  fmt::format("weight_map: expected the plain name of a file for '{}'", printable(tensor)));
    }
    if (parsed.tensors.size() == kMostTensors) {
      throw Error(ErrorCode::kBadInput, where, fmt::format("weight_map: more than {} tensors", kMostTensors));
    }
    if (!tensors.insert(tensor).second) {
      throw Error(ErrorCode::kBadInput, where, fmt::format("the key \"{}\" stands twice in one JSON object", printable(tensor)));
    }
    const auto& name = file.get_ref<const std::string&>();
    if (known.insert(name).second) parsed.files.push_back(name);
    parsed.tensors.emplace_back(std::move(tensor), name);
  };
  static constexpr std::string_view kMap[] = {"/weight_map"};
  const Json index = parse_json_in_parts(text, where, kMap, take);
  const Json& map = JsonView(index, where).child("weight_map").json();
  if (!map.is_object() || parsed.tensors.empty()) {
    throw Error(ErrorCode::kBadInput, where, "expected an object with tensors as weight_map");
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

ModelSource open_hf_folder(const fs::path& folder) {
  ModelSource model;
  model.path = folder;
  model.kind = "hf_folder";
  refuse_adapter(folder);
  const fs::path config = folder / "config.json";
  const std::string config_text = read_text_file(config, kLargestConfig);
  refuse_git_lfs_pointer(config_text, config.string());
  model.config = parse_python_json(config_text, config.string());
  const JsonView fields(model.config, config.string());
  if (!model.config->is_object()) fields.refuse("a JSON object");
  ExpectedPlaces expected_places;
  std::unordered_set<std::string> seen;
  for (const std::string& name : weight_files(folder, expected_places, model.warnings)) {
    add_weight_file(folder / name, name, expected_places, seen, model);
  }
  check_all_found(folder, expected_places, seen);
  if (model.tensors.empty()) throw Error(ErrorCode::kBadInput, folder.string(), "the weight files hold no tensors");
  model.side_files = read_side_files(folder);
  std::error_code error;
  if (fs::is_regular_file(folder / "README.md", error)) model.card = read_text_file(folder / "README.md", kLargestConfig);
  model.identity = source_identity(folder, model.card);
  settle_quantisation(model);
  settle_tied_head(model);
  add_warnings(folder, model);
  return model;
}

}  // namespace tritllm
