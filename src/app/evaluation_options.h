// Owns the options of the subcommands that measure models on a text, and their way into EvaluateOptions.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "app/model_options.h"
#include "tasks/evaluate.h"

namespace tritllm::app {

struct EvaluationArguments {
  std::string file, scored = "second-half";
  uint64_t windows = 0;
  uint32_t window = 0;  // tokens; 0: the usual number
};

// Adds --text-file, --windows, --scored and --window; returns the first.
CLI::Option* add_evaluation_options(CLI::App& command, EvaluationArguments& arguments);

// Reads the text. Neither model is set.
EvaluateOptions evaluate_options(const EvaluationArguments& arguments, const ModelArguments& model);

}  // namespace tritllm::app
