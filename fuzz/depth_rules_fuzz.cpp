// Owns the fuzz target of depth rules ('REGEX=D', tasks/tensor_policy.h). Each line of the input is a rule. A rule that is accepted
// says what its text says, and planning with it ends in plans or in an Error.
#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string>

#include "core/error.h"
#include "core/json.h"
#include "tasks/tensor_policy.h"

namespace {

using namespace tritllm;

std::string rule_text(const DepthRule& rule) {
  return rule.pattern + "=" + (rule.depth ? std::to_string(*rule.depth) : std::string("keep"));
}

ModelSource small_model() {
  ModelSource model;
  model.config = Json::object();
  for (const char* const name : {"model.layers.0.self_attn.q_proj.weight", "model.layers.11.mlp.down_proj.weight"}) {
    SourceTensor tensor;
    tensor.name = name;
    tensor.shape = {2, 16};
    tensor.type = ElementType::kF32;
    model.tensors.push_back(tensor);
  }
  return model;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ModelSource model = small_model();
  std::istringstream lines(std::string(reinterpret_cast<const char*>(data), size));
  TensorPolicy policy;
  for (std::string line; std::getline(lines, line) && policy.rules.size() < 8;) {
    try {
      policy.rules.push_back(parse_depth_rule(line));
    } catch (const Error&) {
      continue;
    }
    if (rule_text(policy.rules.back()) != line) std::abort();
  }
  try {
    if (plan_tensors(model, policy, 2).size() != model.tensors.size()) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
