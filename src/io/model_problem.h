// Owns what a check of a model reports: every problem, not the first alone.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace tritllm {

// One thing that is wrong with a model.
struct ModelProblem {
  std::string file, where, message;
};

class ModelProblems {
 public:
  // Runs one check. What it refuses becomes a problem, once, so that the next check still runs. Whether nothing was refused.
  template <typename Check>
  bool attempt(const std::string& file, const Check& check) {
    try {
      check();
      return true;
    } catch (const Error& error) {
      const std::string message = error.remedy().empty() ? error.problem() : error.problem() + "; " + error.remedy();
      const auto is_same = [&](const ModelProblem& known) { return known.where == error.where() && known.message == message; };
      if (std::ranges::none_of(problems_, is_same)) problems_.push_back({file, error.where(), message});
      return false;
    }
  }

  void add(ModelProblem problem) { problems_.push_back(std::move(problem)); }
  bool empty() const noexcept { return problems_.empty(); }
  std::vector<ModelProblem> take() { return std::move(problems_); }

 private:
  std::vector<ModelProblem> problems_;
};

}  // namespace tritllm
