// Owns the names and shapes by which roles are told, and the patterns of depth rules.
#include "tasks/tensor_policy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "core/error.h"
#include "core/json.h"
#include "io/tied_head.h"

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

constexpr std::array<std::string_view, 8> kEmbeddings{"embed_tokens", "wte",    "word_embeddings",        "tok_embeddings",
                                                      "embed_in",     "shared", "embed_tokens_per_layer", "token_embedding"};
constexpr std::array<std::string_view, 5> kHeads{"lm_head", "embed_out", "output", "score", "classifier"};
constexpr std::array<std::string_view, 3> kRouters{"gate", "router", "shared_expert_gate"};
constexpr std::array<std::string_view, 6> kFeedForwards{"mlp", "moe", "ffn", "feed_forward", "block_sparse_moe", "mixer"};
// Parts of names of whatever is not text, and of what joins it to the text.
constexpr std::array<std::string_view, 13> kTowers{"vision",  "visual",      "audio",      "speech",       "image",
                                                   "video",   "multi_modal", "multimodal", "mm_projector", "modality_projection",
                                                   "vqmodel", "connector",   "resampler"};
// Families whose linear matrices are stored [in, out], as OpenAI's Conv1D has them, and the names of those matrices.
constexpr std::array<std::string_view, 4> kConv1dFamilies{"gpt2", "openai-gpt", "imagegpt", "decision_transformer"};
constexpr std::array<std::string_view, 4> kConv1dMatrices{"c_attn", "c_proj", "c_fc", "q_attn"};
// Families whose stacks of experts are stored [experts, in, out].
constexpr std::array<std::string_view, 3> kTransposedStacks{"gpt_oss", "llama4", "llama4_text"};
// A part named "gate" with more rows is a feed-forward gate: no model has that many experts.
constexpr uint64_t kMostExperts = 2048;

bool some_part_contains(const std::vector<std::string_view>& parts, std::string_view word) {
  return std::ranges::any_of(parts, [&](std::string_view part) { return part.find(word) != part.npos; });
}

// Inside a layer, names of parts are followed or preceded by the layer's number.
bool is_numbered(const std::vector<std::string_view>& parts) {
  const auto is_number = [](std::string_view part) { return part.find_first_not_of("0123456789") == part.npos; };
  return std::ranges::any_of(parts, is_number);
}

// A whole number of the config, 0 where it has none of this name.
uint64_t size_in(const Json& config, std::initializer_list<const char*> names) {
  for (const char* const name : names) {
    const auto found = config.find(name);
    if (found != config.end() && found->is_number_integer() && *found > 0) return found->get<uint64_t>();
  }
  return 0;
}

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

// Positions of the embedding and of the head that the config ties to it, where the source holds both.
std::optional<std::pair<size_t, size_t>> tied_pair(const ModelSource& model, const TensorRoles& roles) {
  if (!config_ties_head(model.config)) return std::nullopt;
  std::optional<size_t> embedding, head;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (model.tensors[i].name.ends_with("embed_tokens.weight")) embedding = i;
    if (roles.of(model.tensors[i]) == TensorRole::kHead) head = i;
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

[[noreturn]] void refuse_transposed(const SourceTensor& tensor) {
  throw Error(ErrorCode::kUnsupported, tensor.place,
              fmt::format("the matrix is stored [{}], inputs before outputs; groups of weights run along the inputs, which are "
                          "expected last",
                          fmt::join(tensor.shape, ", ")),
              "keep such matrices by a depth rule, for example 'experts=keep'");
}

}  // namespace

std::string_view role_name(TensorRole role) noexcept {
  switch (role) {
    case TensorRole::kMatrix: return "matrix";
    case TensorRole::kEmbedding: return "embedding";
    case TensorRole::kHead: return "head";
    case TensorRole::kTower: return "tower";
    case TensorRole::kTransposed: return "transposed";
    case TensorRole::kOther: break;
  }
  return "other";
}

TensorRoles::TensorRoles(const Json& config) {
  if (!config.is_object()) return;
  const auto nested = config.find("text_config");
  const Json& text = nested != config.end() && nested->is_object() ? *nested : config;
  const auto type = text.find("model_type");
  if (type != text.end() && type->is_string()) family_ = type->get<std::string>();
  vocabulary_ = size_in(text, {"vocab_size"});
  hidden_ = size_in(text, {"hidden_size", "d_model", "n_embd"});
  experts_ = size_in(text, {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"});
  if (const auto ffn = text.find("ffn_config"); ffn != text.end() && ffn->is_object()) {
    experts_ = std::max(experts_, size_in(*ffn, {"moe_num_experts"}));
  }
}

bool TensorRoles::is_router(const SourceTensor& tensor, const std::vector<std::string_view>& parts) const {
  if (some_part_contains(parts, "router")) return true;
  const auto is_gate = [](std::string_view part) { return is_one_of(part, kRouters); };
  if (tensor.rows() <= kMostExperts && std::ranges::any_of(parts, is_gate)) return true;
  // One row for each expert, in the feed-forward block but in none of the experts.
  const auto is_block = [](std::string_view part) { return is_one_of(part, kFeedForwards); };
  return experts_ > 1 && tensor.shape.size() == 2 && tensor.rows() == experts_ && std::ranges::any_of(parts, is_block) &&
         !some_part_contains(parts, "expert");
}

bool TensorRoles::is_transposed(const SourceTensor& tensor, std::string_view module) const {
  if (tensor.shape.size() == 2) return is_one_of(family_, kConv1dFamilies) && is_one_of(module, kConv1dMatrices);
  if (is_one_of(family_, kTransposedStacks)) return true;
  // A matrix that leads out of the hidden states has them as its inputs, one that leads back as its outputs.
  const auto contains = [&](std::string_view word) { return module.find(word) != module.npos; };
  const bool leads_back = contains("down") || contains("output") || module == "w2";
  const uint64_t outputs = tensor.shape[1], inputs = tensor.shape[2];
  if (hidden_ == 0 || outputs == inputs) return false;
  return leads_back ? inputs == hidden_ : outputs == hidden_;
}

TensorRole TensorRoles::of(const SourceTensor& tensor) const {
  if (!is_weight_type(tensor.type) || tensor.elements() == 0) return TensorRole::kOther;
  std::vector<std::string_view> parts = name_parts(tensor.name);
  const bool is_stack = tensor.shape.size() == 3 && (some_part_contains(parts, "experts") || some_part_contains(parts, "moe"));
  if (tensor.shape.size() != 2 && !is_stack) return TensorRole::kOther;
  if (parts.back() == "weight" && parts.size() > 1) parts.pop_back();
  else if (!is_stack) return TensorRole::kOther;
  const std::string_view module = parts.back();
  const auto contains = [&](std::string_view word) { return module.find(word) != module.npos; };
  const auto is_tower = [&](std::string_view word) { return some_part_contains(parts, word); };
  const bool in_tower = std::ranges::any_of(kTowers, is_tower);
  if (is_one_of(module, kEmbeddings)) return TensorRole::kEmbedding;
  // Inside a layer, "output" and "classifier" are the names of ordinary matrices.
  if (is_one_of(module, kHeads) && (module == "lm_head" || !is_numbered(parts))) return TensorRole::kHead;
  if (is_router(tensor, parts)) return TensorRole::kOther;
  if (contains("norm") || contains("embed") || contains("bias") || module.starts_with("ln_") || module == "wpe") {
    // One row for each token: the token embedding under a name of its own.
    const bool is_tokens = contains("embed") && vocabulary_ > 1 && tensor.rows() == vocabulary_ && !in_tower;
    return is_tokens ? TensorRole::kEmbedding : TensorRole::kOther;
  }
  if (in_tower) return TensorRole::kTower;
  if (tensor.shape.size() == 2 && vocabulary_ > 1 && tensor.rows() == vocabulary_ && !is_numbered(parts)) return TensorRole::kHead;
  return is_transposed(tensor, module) ? TensorRole::kTransposed : TensorRole::kMatrix;
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
  const TensorRoles roles(model.config);
  const auto tied = tied_pair(model, roles);
  // Depth 0: kept.
  const auto ternary = [](int at) { return at != 0 ? TensorPlan{Fate::kTernary, at, ""} : TensorPlan{}; };

  std::vector<TensorPlan> plans;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const SourceTensor& tensor = model.tensors[i];
    check_type(tensor);
    const TensorRole role = roles.of(tensor);
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
      plans.push_back(ternary(policy.embedding_depth.value_or(0)));
    } else if (role == TensorRole::kHead) {
      plans.push_back(ternary(policy.head_depth.value_or(0)));
    } else if (role == TensorRole::kMatrix || role == TensorRole::kTower || role == TensorRole::kTransposed) {
      int chosen = role == TensorRole::kTower ? 0 : depth;
      for (size_t k = 0; k < patterns.size(); ++k) {
        if (!patterns[k].matches(tensor.name)) continue;
        matched[k] = true;
        chosen = policy.rules[k].depth.value_or(0);
      }
      if (chosen != 0 && role == TensorRole::kTransposed) refuse_transposed(tensor);
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
  const auto becomes_ternary = [](const TensorPlan& plan) { return plan.fate == Fate::kTernary; };
  if (std::ranges::none_of(plans, becomes_ternary)) {
    throw Error(ErrorCode::kUnsupported, model.path.string(), "no tensor of the model would become ternary",
                "inspect the model to see what each tensor is taken for; towers become ternary where a depth rule names them");
  }
  return plans;
}

}  // namespace tritllm
