#include "io/gguf_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "io/gguf.h"
#include "io/gguf_config.h"
#include "io/gguf_family.h"
#include "io/gguf_tokenizer.h"

namespace tritllm {
namespace {

void refuse_other_contents(const GgufFile& file) {
  if (file.integer("split.count").value_or(1) > 1) {
    throw Error(ErrorCode::kUnsupported, file.where(), "the file is one part of a model that is split over several files",
                "join them with llama-gguf-split --merge");
  }
  const std::string_view type = file.text("general.type").value_or("model");
  if (type != "model") {
    throw Error(ErrorCode::kUnsupported, file.where(),
                fmt::format("expected a model, found contents of type '{}'", printable(type)));
  }
}

std::optional<std::string> base_model_of(const GgufFile& file) {
  constexpr std::string_view kAddresses[] = {"general.source.huggingface.repository", "general.source.repo_url",
                                             "general.base_model.0.repo_url", "general.repo_url"};
  for (const std::string_view key : kAddresses) {
    const auto address = file.text(key);
    if (auto id = address ? hub_id(*address) : std::nullopt) return id;
  }
  return std::nullopt;
}

std::optional<std::string> license_of(const GgufFile& file) {
  const auto license = file.text("general.license");
  return license ? std::optional(std::string(*license)) : std::nullopt;
}

// Nothing where no tensor has a format that has already thrown bits away.
std::optional<std::string> quantised_warning(std::span<const SourceTensor> tensors) {
  std::map<std::string_view, size_t> counts;
  for (const SourceTensor& tensor : tensors) {
    if (is_quantised_type(tensor.type)) ++counts[layout_of(tensor.type).name];
  }
  if (counts.empty()) return std::nullopt;
  std::string types;
  for (const auto& [name, count] : counts) types += fmt::format("{}{} {}", types.empty() ? "" : ", ", count, name);
  return fmt::format(
      "The weights were already quantised (tensors by type: {}): quantising them again adds error to error, "
      "so start from the original model where you can.",
      types);
}

}  // namespace

ModelSource translate_gguf(std::span<const std::byte> bytes, const std::filesystem::path& path) {
  const GgufFile file = GgufFile::parse(bytes, path.string());
  refuse_other_contents(file);
  const GgufFamily& family = family_of(file);
  const GgufDimensions dimensions = read_dimensions(file);
  ModelSource source;
  source.path = path;
  source.kind = "gguf";
  GgufOptionalParts parts;
  source.tensors = translate_tensors(file, family, dimensions, parts);
  GgufTokenizer tokenizer = read_tokenizer(file, family, dimensions);
  source.config = config_of(file, family, dimensions, parts, tokenizer.ids, source.tensors);
  source.side_files = {
      {"generation_config.json", json_text(generation_config_of(file, tokenizer.ids))},
      {"special_tokens_map.json", json_text(tokenizer.special_tokens_map)},
      {"tokenizer.json", json_text(tokenizer.tokenizer)},
      {"tokenizer_config.json", json_text(tokenizer.tokenizer_config)},
  };
  source.base_model = base_model_of(file);
  source.license = license_of(file);
  source.warnings = std::move(tokenizer.warnings);
  if (auto warning = quantised_warning(source.tensors)) source.warnings.push_back(std::move(*warning));
  return source;
}

ModelSource open_gguf_model(const std::filesystem::path& path) {
  MappedFile file = MappedFile::open(path);
  ModelSource source = translate_gguf(file.bytes(), path);
  source.files.push_back(std::move(file));
  return source;
}

}  // namespace tritllm
