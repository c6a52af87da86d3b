// Owns the comparison of head and embedding, and the field of config.json that ties them.
#include "io/tied_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"
#include "core/json.h"

namespace tritllm {
namespace {

constexpr std::string_view kField = "tie_word_embeddings";
constexpr std::array<std::string_view, 5> kEmbeddings{"embed_tokens.weight", "wte.weight", "word_embeddings.weight",
                                                      "tok_embeddings.weight", "embed_in.weight"};
constexpr std::array<std::string_view, 2> kHeads{"lm_head.weight", "embed_out.weight"};

// A tower's own embedding or head is not the model's.
bool is_of_text(std::string_view name) {
  return name.find("vision") == name.npos && name.find("audio") == name.npos && name.find("per_layer") == name.npos;
}

template <size_t kCount>
const SourceTensor* find(const std::vector<SourceTensor>& tensors, const std::array<std::string_view, kCount>& endings) {
  const auto matches = [&](const SourceTensor& tensor) {
    const auto ends = [&](std::string_view ending) {
      return tensor.name == ending || (tensor.name.ends_with(ending) && tensor.name[tensor.name.size() - ending.size() - 1] == '.');
    };
    return is_of_text(tensor.name) && std::ranges::any_of(endings, ends);
  };
  const auto found = std::ranges::find_if(tensors, matches);
  return found == tensors.end() ? nullptr : &*found;
}

bool are_equal(const SourceTensor& a, const SourceTensor& b) {
  return a.type == b.type && a.shape == b.shape && std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

const Json* text_config(const Json& config) {
  const auto found = config.find("text_config");
  return found != config.end() && found->is_object() ? &*found : nullptr;
}

std::string_view architecture_of(const Json& config) {
  const auto list = config.find("architectures");
  if (list == config.end() || !list->is_array() || list->empty() || !(*list)[0].is_string()) return "";
  return (*list)[0].get_ref<const std::string&>();
}

void refuse_what_is_not_boolean(const Json& config, const std::string& where) {
  for (const Json* const object : {text_config(config), &config}) {
    if (object == nullptr) continue;
    const auto found = object->find(kField);
    if (found == object->end() || found->is_null() || found->is_boolean()) continue;
    throw Error(ErrorCode::kBadInput, where,
                fmt::format("expected true or false at \"{}\", found {}", kField, printable(found->dump())));
  }
}

}  // namespace

bool ties_head_by_default(std::string_view architecture) noexcept { return architecture.starts_with("Gemma"); }

bool config_ties_head(const Json& config) {
  for (const Json* const object : {text_config(config), &config}) {
    if (object == nullptr) continue;
    const auto found = object->find(kField);
    if (found != object->end() && found->is_boolean()) return found->get<bool>();
  }
  return ties_head_by_default(architecture_of(config));
}

void untie_head(Json& config) {
  config[std::string(kField)] = false;
  if (const auto text = config.find("text_config"); text != config.end() && text->is_object()) (*text)[std::string(kField)] = false;
}

void settle_tied_head(ModelSource& model) {
  refuse_what_is_not_boolean(*model.config, (model.path / "config.json").string());
  if (!config_ties_head(model.config)) return;
  const SourceTensor* const embedding = find(model.tensors, kEmbeddings);
  const SourceTensor* const head = find(model.tensors, kHeads);
  if (embedding == nullptr || head == nullptr || are_equal(*embedding, *head)) return;
  untie_head(*model.config);
  model.warnings.emplace_back(kUntiedWarning);
}

}  // namespace tritllm
