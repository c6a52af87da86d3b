// Owns the decision what becomes of each tensor of a model: ternary at which depth, kept, or tied to another. Models of unknown
// families can be quantised: names, shapes and types are enough.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_fwd.h"
#include "io/manifest.h"
#include "io/model_source.h"

namespace tritllm {

// The part that a tensor plays.
enum class TensorRole {
  kMatrix,      // a linear matrix, or a stack of them
  kEmbedding,   // token embedding
  kHead,        // output projection to the vocabulary, or to the classes of a classifier
  kTower,       // a matrix of a part that sees or hears, or of what joins it to the text: kept unless a rule names it
  kTransposed,  // a matrix stored [in, out]: its groups would not run along its inputs
  kOther,       // norms, biases, routers, positions, convolutions
};

std::string_view role_name(TensorRole role) noexcept;

// Tells roles by a tensor's name, shape and type, and by what config.json says of sizes and family. Names are those of any model;
// where they leave a doubt, shapes decide.
class TensorRoles {
 public:
  explicit TensorRoles(const Json& config);

  TensorRole of(const SourceTensor& tensor) const;

 private:
  bool is_router(const SourceTensor& tensor, const std::vector<std::string_view>& parts) const;
  bool is_transposed(const SourceTensor& tensor, std::string_view module) const;

  std::string family_;                                  // model_type of the text part
  uint64_t vocabulary_ = 0, hidden_ = 0, experts_ = 0;  // 0: the config does not say
};

// `--depth 'REGEX=D'`: matrices whose name the pattern matches somewhere get this depth, or are kept.
struct DepthRule {
  std::string pattern;
  std::optional<int> depth;  // nothing: keep
};

// Throws an Error of kUsage where the text is not 'REGEX=D' with D = 1..4 or keep.
DepthRule parse_depth_rule(const std::string& text);

struct TensorPolicy {
  std::vector<DepthRule> rules;  // a later rule overrides an earlier one
  std::optional<int> embedding_depth, head_depth;

  // For fingerprints: equal text, equal decisions.
  std::string description() const;
};

struct TensorPlan {
  Fate fate = Fate::kKept;
  int depth = 0;        // ternary only; of recipe exact the most that the matrix may have, until its depth is found
  std::string tied_to;  // tied only
};

// One plan for each tensor of the model, in order. Throws where a rule matches no matrix, where a tensor has a type that cannot be
// converted or is stored [in, out] and no rule keeps it, where a config ties two tensors whose contents differ, and where nothing
// would become ternary.
std::vector<TensorPlan> plan_tensors(const ModelSource& model, const TensorPolicy& policy, int depth);

}  // namespace tritllm
