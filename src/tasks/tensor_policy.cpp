#include "tasks/tensor_policy.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "core/error.h"

namespace tritllm {
namespace {

std::vector<std::string_view> name_parts(std::string_view name) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t dot = name.find('.');
    parts.push_back(name.substr(0, dot));
    if (dot == name.npos) return parts;
    name.remove_prefix(dot + 1);
  }
}

template <size_t kCount>
bool is_one_of(std::string_view part, const std::array<std::string_view, kCount>& names) {
  return std::find(names.begin(), names.end(), part) != names.end();
}

constexpr std::array<std::string_view, 6> kEmbeddings{"embed_tokens",   "wte",      "word_embeddings",
                                                      "tok_embeddings", "embed_in", "embed_tokens_per_layer"};
constexpr std::array<std::string_view, 3> kHeads{"lm_head", "embed_out", "output"};
constexpr std::array<std::string_view, 2> kRouters{"gate", "shared_expert_gate"};

// A pattern compiled once, with bounds on what matching may cost: both pattern and names come from outside.
class NamePattern {
 public:
  explicit NamePattern(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF, &error, &offset, nullptr));
    if (code_ == nullptr) {
      std::array<PCRE2_UCHAR, 200> message{};
      pcre2_get_error_message(error, message.data(), message.size());
      throw Error(ErrorCode::kUsage, "options.policy.rules",
                  fmt::format("'{}' is not a regular expression: {} at position {}", pattern,
                              reinterpret_cast<const char*>(message.data()), offset));
    }
    data_.reset(pcre2_match_data_create(1, nullptr));
    limits_.reset(pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(limits_.get(), 1'000'000);
  }

  bool matches(const std::string& name) const {
    const int result =
        pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0, data_.get(), limits_.get());
    if (result < PCRE2_ERROR_NOMATCH)
      throw Error(ErrorCode::kUsage, "options.policy.rules",
                  fmt::format("the pattern cannot be matched against '{}'", printable(name)));
    return result >= 0;
  }

 private:
  template <auto kFree>
  struct Free {
    template <typename Object>
    void operator()(Object* object) const {
      kFree(object);
    }
  };
  std::unique_ptr<pcre2_code, Free<pcre2_code_free>> code_;
  std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>> data_;
  std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>> limits_;
};

// Names of the embedding and of the head that the config ties to it, where the source holds both.
std::optional<std::pair<size_t, size_t>> tied_pair(const ModelSource& model) {
  const std::string where = (model.path / "config.json").string();
  bool tied = json_boolean_or(model.config, "tie_word_embeddings", false, where);
  if (const auto text = model.config.find("text_config"); text != model.config.end() && text->is_object()) {
    tied = json_boolean_or(*text, "tie_word_embeddings", tied, where + ": /text_config");
  }
  if (!tied) return std::nullopt;
  std::optional<size_t> embedding, head;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (model.tensors[i].name.ends_with("embed_tokens.weight")) embedding = i;
    if (role_of(model.tensors[i]) == TensorRole::kHead) head = i;
  }
  if (!embedding || !head) return std::nullopt;
  return std::pair(*embedding, *head);
}

void check_type(const SourceTensor& tensor) {
  if (tensor.type == ElementType::kF8E4M3 || tensor.type == ElementType::kF8E5M2 || tensor.type == ElementType::kC64) {
    throw Error(ErrorCode::kUnsupported, tensor.place,
                fmt::format("tensors of type {} cannot be read", layout_of(tensor.type).name),
                "convert the model to BF16, FP16 or F32 first");
  }
}

}  // namespace

TensorRole role_of(const SourceTensor& tensor) {
  if (!is_weight_type(tensor.type) || tensor.elements() == 0) return TensorRole::kOther;
  std::vector<std::string_view> parts = name_parts(tensor.name);
  const auto some_part_contains = [&](std::string_view word) {
    return std::any_of(parts.begin(), parts.end(), [&](std::string_view part) { return part.find(word) != part.npos; });
  };
  const bool is_stack = tensor.shape.size() == 3 && (some_part_contains("experts") || some_part_contains("moe"));
  if (tensor.shape.size() != 2 && !is_stack) return TensorRole::kOther;
  if (parts.back() == "weight" && parts.size() > 1) parts.pop_back();
  else if (!is_stack) return TensorRole::kOther;
  const std::string_view module = parts.back();
  const auto contains = [&](std::string_view word) { return module.find(word) != module.npos; };
  if (is_one_of(module, kEmbeddings)) return TensorRole::kEmbedding;
  if (is_one_of(module, kHeads)) return TensorRole::kHead;
  if (is_one_of(module, kRouters) || some_part_contains("router")) return TensorRole::kOther;
  if (contains("norm") || contains("embed") || contains("bias") || module.starts_with("ln_") || module == "wpe")
    return TensorRole::kOther;
  return TensorRole::kMatrix;
}

DepthRule parse_depth_rule(const std::string& text) {
  const size_t equals = text.rfind('=');
  const std::string value = equals == text.npos ? "" : text.substr(equals + 1);
  if (equals == 0 || (value != "keep" && (value.size() != 1 || value[0] < '1' || value[0] > '4'))) {
    throw Error(ErrorCode::kUsage, "options.policy.rules",
                fmt::format("expected 'REGEX=D' with D from 1 to 4 or keep, found '{}'", text));
  }
  DepthRule rule{text.substr(0, equals), std::nullopt};
  if (value != "keep") rule.depth = value[0] - '0';
  NamePattern{rule.pattern};
  return rule;
}

std::string TensorPolicy::description() const {
  std::string text;
  for (const DepthRule& rule : rules) text += fmt::format("{}={}\n", rule.pattern, rule.depth.value_or(0));
  return text + fmt::format("embedding {} head {}\n", embedding_depth.value_or(0), head_depth.value_or(0));
}

std::vector<TensorPlan> plan_tensors(const ModelSource& model, const TensorPolicy& policy, int depth) {
  std::vector<NamePattern> patterns;
  for (const DepthRule& rule : policy.rules) patterns.emplace_back(rule.pattern);
  std::vector<bool> matched(patterns.size());
  const auto tied = tied_pair(model);
  const auto ternary = [](std::optional<int> at) { return at ? TensorPlan{Fate::kTernary, *at, ""} : TensorPlan{}; };

  std::vector<TensorPlan> plans;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const SourceTensor& tensor = model.tensors[i];
    check_type(tensor);
    const TensorRole role = role_of(tensor);
    if (tied && tied->second == i) {
      const SourceTensor& embedding = model.tensors[tied->first];
      if (tensor.type != embedding.type || tensor.shape != embedding.shape ||
          std::memcmp(tensor.bytes.data(), embedding.bytes.data(), tensor.bytes.size()) != 0) {
        throw Error(ErrorCode::kBadInput, tensor.place,
                    fmt::format("config.json ties it to '{}', but their contents differ", printable(embedding.name)),
                    "correct tie_word_embeddings in config.json");
      }
      plans.push_back({Fate::kTied, 0, embedding.name});
    } else if (role == TensorRole::kEmbedding) {
      plans.push_back(ternary(policy.embedding_depth));
    } else if (role == TensorRole::kHead) {
      plans.push_back(ternary(policy.head_depth));
    } else if (role == TensorRole::kMatrix) {
      std::optional<int> chosen = depth;
      for (size_t k = 0; k < patterns.size(); ++k) {
        if (!patterns[k].matches(tensor.name)) continue;
        matched[k] = true;
        chosen = policy.rules[k].depth;
      }
      plans.push_back(ternary(chosen));
    } else {
      plans.push_back({});
    }
  }
  for (size_t k = 0; k < patterns.size(); ++k) {
    if (!matched[k])
      throw Error(ErrorCode::kUsage, "options.policy.rules",
                  fmt::format("no matrix has a name that matches '{}'", policy.rules[k].pattern));
  }
  if (policy.head_depth && tied) {
    throw Error(ErrorCode::kUsage, "options.policy.head_depth", "the model's head is tied to its embedding",
                "set the depth of both with options.policy.embedding_depth");
  }
  return plans;
}

}  // namespace tritllm
