// Owns the joining of a GGUF file's translations into one model.
#include "io/gguf_model.h"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "io/gguf.h"
#include "io/gguf_config.h"
#include "io/gguf_family.h"
#include "io/gguf_tokenizer.h"
#include "io/model_location.h"

namespace tritllm {
namespace {

constexpr uint64_t kMostParts = 100'000;

// Each part of a split model says which one it is; the metadata is that of the first.
GgufFile join_parts(std::span<const std::span<const std::byte>> parts, const std::string& where) {
  std::optional<GgufFile> whole;
  for (size_t i = 0; i < parts.size(); ++i) {
    GgufFile part = GgufFile::parse(parts[i], parts.size() == 1 ? where : fmt::format("{}: part {}", where, i + 1));
    const uint64_t count = part.integer("split.count", kMostParts).value_or(1);
    if (count > 1 && (count != parts.size() || part.integer("split.no", kMostParts).value_or(0) != i)) {
      throw Error(ErrorCode::kUnsupported, part.where(),
                  fmt::format("is part {} of {} of a split model", part.integer("split.no").value_or(0) + 1, count),
                  "keep all parts in one folder under their names NAME-00001-of-0000N.gguf, or join them with "
                  "llama.cpp's gguf-split");
    }
    if (whole) whole->add_part(part);
    else whole = std::move(part);
  }
  return std::move(*whole);
}

void refuse_other_contents(const GgufFile& file) {
  const std::string_view type = file.text("general.type").value_or("model");
  if (type != "model") {
    throw Error(ErrorCode::kUnsupported, file.where(),
                fmt::format("expected a model, found contents of type '{}'", printable(type)));
  }
}

// Not general.base_model.*, which names the models that this one was tuned from.
std::optional<std::string> hub_id_of(const GgufFile& file) {
  constexpr std::string_view kAddresses[] = {"general.source.huggingface.repository", "general.source.repo_url",
                                             "general.repo_url"};
  for (const std::string_view key : kAddresses) {
    const auto address = file.text(key);
    if (auto id = address ? hub_id(*address) : std::nullopt) return id;
  }
  return std::nullopt;
}

SourceIdentity identity_of(const GgufFile& file, const std::filesystem::path& path) {
  const auto text = [&](std::string_view key) {
    const auto value = file.text(key);
    return value ? std::optional(std::string(*value)) : std::nullopt;
  };
  SourceIdentity identity = source_identity(path, /*readme=*/"");
  // The file may lie in the cache of somebody who passes the model on: its place tells nothing of the model's own repository.
  if (auto id = hub_id_of(file); id && id != identity.hub_id) {
    identity.name = id->substr(id->rfind('/') + 1);
    identity.revision.reset();
    identity.hub_id = std::move(id);
  }
  identity.license = text("general.license");
  identity.license_name = text("general.license.name");
  identity.license_link = text("general.license.link");
  return identity;
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
  return translate_gguf_parts({&bytes, 1}, path);
}

ModelSource translate_gguf_parts(std::span<const std::span<const std::byte>> parts, const std::filesystem::path& path) {
  const GgufFile file = join_parts(parts, path.string());
  refuse_other_contents(file);
  const GgufFamily& family = family_of(file);
  const GgufDimensions dimensions = read_dimensions(file);
  ModelSource source;
  source.path = path;
  source.kind = "gguf";
  GgufOptionalParts optional;
  source.tensors = translate_tensors(file, family, dimensions, optional);
  GgufTokenizer tokenizer = read_tokenizer(file, family, dimensions);
  source.config = config_of(file, family, dimensions, optional, tokenizer.ids, source.tensors);
  source.side_files = {
      {"generation_config.json", json_text(generation_config_of(file, tokenizer.ids))},
      {"special_tokens_map.json", json_text(tokenizer.special_tokens_map)},
      {"tokenizer.json", json_text(tokenizer.tokenizer)},
      {"tokenizer_config.json", json_text(tokenizer.tokenizer_config)},
  };
  source.identity = identity_of(file, path);
  source.warnings = std::move(tokenizer.warnings);
  if (auto warning = quantised_warning(source.tensors)) source.quantising_warnings.push_back(std::move(*warning));
  return source;
}

ModelSource open_gguf_model(const std::filesystem::path& path) {
  std::vector<MappedFile> files;
  std::vector<std::span<const std::byte>> parts;
  for (const std::filesystem::path& part : gguf_parts(path)) {
    files.push_back(MappedFile::open(part));
    parts.push_back(files.back().bytes());
  }
  ModelSource source = translate_gguf_parts(parts, path);
  source.files = std::move(files);
  return source;
}

}  // namespace tritllm
