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
#include "io/model_folder.h"
#include "io/model_location.h"
#include "io/quantised_source.h"
#include "io/safetensors.h"
#include "io/tied_head.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMostTensors = 1'000'000;
constexpr size_t kLongestSideFileName = 240;  // leaves room for the ending that a file has while it is written
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";
constexpr std::string_view kTemplateFolder = "additional_chat_templates";

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

// `name` is relative to the model's folder.
SideFile read_side_file(const fs::path& folder, const std::string& name) {
  const fs::path path = folder / name;
  if (!is_plain_file_name(path.filename().string())) {
    throw Error(ErrorCode::kBadInput, path.string(), "expected a file name in UTF-8 without backslashes",
                "rename or remove the file");
  }
  if (name.size() > kLongestSideFileName) {
    throw Error(ErrorCode::kBadInput, path.string(),
                fmt::format("expected a file name of at most {} bytes",
                            kLongestSideFileName - (name.size() - path.filename().string().size())),
                "rename or remove the file");
  }
  SideFile file{name, read_model_file(folder, name, kLargestSideFile)};
  refuse_git_lfs_pointer(file.contents, path.string());
  return file;
}

// Relative to the model's folder.
std::vector<std::string> side_file_names(const fs::path& folder) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& prefix) {
    for (const std::string& name : folder_entries(folder / prefix)) {
      if (is_side_file(name)) names.push_back(prefix + name);
    }
  };
  add("");
  if (has_model_folder(folder, kTemplateFolder)) add(fmt::format("{}/", kTemplateFolder));
  return names;
}

// Each tensor's file, as the index has it.
using ExpectedPlaces = std::unordered_map<std::string, std::string>;

[[noreturn]] void refuse_folder(const fs::path& folder, std::string_view problem, std::string_view remedy) {
  throw Error(ErrorCode::kNotFound, folder.string(), problem, remedy);
}

// Says what a folder without safetensors weights of the usual names holds instead.
[[noreturn]] void explain_missing_weights(const fs::path& folder) {
  if (has_model_file(folder, kManifestName)) {
    refuse_folder(folder, "is a packed checkpoint, whose weights are ternary already",
                  "name the model that it was made from, or dequantise it first");
  }
  std::vector<std::string> pickles, others;
  for (const std::string& name : folder_entries(folder)) {
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
  if (!has_model_file(folder, "adapter_config.json")) return;
  const fs::path config = folder / "adapter_config.json";
  const Json settings = parse_python_json(read_model_file(folder, "adapter_config.json", kLargestConfig), config.string());
  const JsonView view(settings, config.string());
  const auto base = settings.is_object() ? view.optional_text("base_model_name_or_path") : std::nullopt;
  throw Error(
      ErrorCode::kUnsupported, config.string(),
      base ? fmt::format("the folder holds an adapter for '{}'", printable(*base)) : "the folder holds an adapter",
      "merge it into the model first (PeftModel.merge_and_unload and save_pretrained in Python), or remove the adapter's files");
}

WeightMap read_weight_map(const fs::path& folder) {
  return parse_weight_map(read_model_file(folder, kIndexName, kLargestSafetensorsHeader), (folder / kIndexName).string());
}

JsonDocument read_config(const fs::path& folder) {
  const std::string where = (folder / "config.json").string();
  const std::string text = read_model_file(folder, "config.json", kLargestConfig);
  refuse_git_lfs_pointer(text, where);
  JsonDocument config(parse_python_json(text, where));
  if (!config->is_object()) JsonView(config, where).refuse("a JSON object");
  return config;
}

// JSON that the engine reads must be JSON. Its long lists are not kept: a tree of them would take some forty times their bytes.
void check_side_file(const SideFile& file, const std::string& where) {
  static constexpr std::array<std::string_view, 6> kRead{"tokenizer.json",    "tokenizer_config.json",   "chat_template.json",
                                                         "added_tokens.json", "special_tokens_map.json", "generation_config.json"};
  static constexpr std::string_view kLists[] = {"/model/vocab", "/model/merges", "/added_tokens"};
  if (std::ranges::find(kRead, file.name) == kRead.end()) return;
  parse_json_in_parts(file.contents, where, kLists, [](size_t, const std::string&, const Json&) {});
}

// As in transformers, model.safetensors counts before an index.
std::vector<std::string> weight_files(const fs::path& folder, ExpectedPlaces& expected_places, std::vector<std::string>& warnings) {
  const bool has_index = has_model_file(folder, kIndexName);
  if (has_model_file(folder, kSingleName)) {
    if (has_index) {
      warnings.push_back(fmt::format("{} is read; {} next to it and the files that it lists are not, as in transformers",
                                     (folder / kSingleName).string(), kIndexName));
    }
    return {std::string(kSingleName)};
  }
  if (!has_index) explain_missing_weights(folder);
  WeightMap map = read_weight_map(folder);
  for (const std::string& file : map.files) {
    if (!has_model_file(folder, file)) {
      throw Error(ErrorCode::kNotFound, (folder / file).string(), fmt::format("is missing, but {} lists it", kIndexName),
                  "fetch the file, or the whole folder again, all files of one revision");
    }
  }
  for (auto& [tensor, file] : map.tensors) expected_places.emplace(std::move(tensor), std::move(file));
  return map.files;
}

// Adds the tensors of one weight file; with an index, the file must hold exactly the tensors that the index places there.
void add_weight_file(const fs::path& folder, const std::string& name, const ExpectedPlaces& expected_places,
                     std::unordered_set<std::string>& seen, ModelSource& model) {
  const fs::path path = folder / name;
  MappedFile file = map_model_file(folder, name);
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
  const std::vector<std::string> names = folder_entries(folder);
  if (std::ranges::any_of(names, [](const std::string& name) { return name.ends_with(".py"); }))
    model.warnings.emplace_back("Python files in the model folder are neither run nor copied");
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
  if (const uint64_t bytes = side_file_bytes(folder); bytes > kLargestSideFiles) {
    throw Error(ErrorCode::kBadInput, folder.string(),
                fmt::format("expected at most {} bytes of files beside the weights, found {}", kLargestSideFiles, bytes),
                "move out what does not belong to the model");
  }
  std::vector<SideFile> files;
  for (const std::string& name : side_file_names(folder)) files.push_back(read_side_file(folder, name));
  return files;
}

uint64_t side_file_bytes(const fs::path& folder) {
  uint64_t bytes = 0;
  const auto add = [&](const std::string& name) { bytes += map_model_file(folder, name).bytes().size(); };
  for (const std::string& name : side_file_names(folder)) add(name);
  if (has_model_file(folder, "README.md")) add("README.md");
  return bytes;
}

ModelSource open_hf_folder(const fs::path& folder) {
  ModelSource model;
  model.path = folder;
  model.kind = "hf_folder";
  refuse_adapter(folder);
  model.config = read_config(folder);
  ExpectedPlaces expected_places;
  std::unordered_set<std::string> seen;
  for (const std::string& name : weight_files(folder, expected_places, model.warnings)) {
    add_weight_file(folder, name, expected_places, seen, model);
  }
  check_all_found(folder, expected_places, seen);
  if (model.tensors.empty()) throw Error(ErrorCode::kBadInput, folder.string(), "the weight files hold no tensors");
  model.side_files = read_side_files(folder);
  if (has_model_file(folder, "README.md")) model.card = read_model_file(folder, "README.md", kLargestConfig);
  model.identity = source_identity(folder, model.card);
  settle_quantisation(model);
  settle_tied_head(model);
  add_warnings(folder, model);
  return model;
}

void examine_hf_files(const fs::path& folder, ModelProblems& problems) {
  problems.attempt("adapter_config.json", [&] { refuse_adapter(folder); });
  problems.attempt("config.json", [&] { read_config(folder); });
  problems.attempt(folder.string(), [&] {
    for (const std::string& name : folder_entries(folder)) {
      problems.attempt(name, [&] {
        if (name == kIndexName) read_weight_map(folder);
        if (!name.ends_with(".safetensors")) return;
        const MappedFile file = map_model_file(folder, name);
        parse_safetensors(file.bytes(), file.path().string());
      });
    }
  });
  problems.attempt(std::string(kTemplateFolder), [&] {
    for (const std::string& name : side_file_names(folder))
      problems.attempt(name, [&] { check_side_file(read_side_file(folder, name), (folder / name).string()); });
  });
}

}  // namespace tritllm
