// Owns the decision what becomes of each tensor of a model: ternary at which depth, kept, or tied to another. It looks at names,
// shapes and types only, so that models of unknown families can be quantised.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/manifest.h"
#include "io/model_source.h"

namespace tritllm {

// The part that a tensor plays, as far as its name tells.
enum class TensorRole {
  kMatrix,     // a linear matrix, or a stack of them
  kEmbedding,  // token embedding
  kHead,       // output projection to the vocabulary
  kOther,      // norms, biases, routers, positions, convolutions
};

TensorRole role_of(const SourceTensor& tensor);

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
  int depth = 0;        // ternary only
  std::string tied_to;  // tied only
};

// One plan for each tensor of the model, in order. Throws where a rule matches no matrix, where a tensor has a type that cannot be
// converted, and where a config ties two tensors whose contents differ.
std::vector<TensorPlan> plan_tensors(const ModelSource& model, const TensorPolicy& policy, int depth);

}  // namespace tritllm
