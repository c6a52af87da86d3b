// Owns the program by which the Python tests see the backward pass: gradients of the output of every linear.
//
//   gradient_probe MODEL
//
// Each line of standard input is a sequence of token ids and, after a "|", as many labels. Standard output gets, for each sequence,
// layer by layer from the first, linear by linear, [tokens, rows] in float32.
#include <fmt/format.h>

#include <cstdio>
#include <iostream>
#include <sstream>

#include "backend/cpu/backend.h"
#include "calibration/host_algebra.h"
#include "calibration/token_sensitivity.h"
#include "core/error.h"

namespace {

using namespace tritllm;

std::vector<uint32_t> numbers(const std::string& text) {
  std::istringstream words(text);
  std::vector<uint32_t> found;
  for (uint32_t number = 0; words >> number;) found.push_back(number);
  return found;
}

}  // namespace

int main(int, char** argv) {
  try {
    TokenSequences sequences, labels;
    for (std::string line; std::getline(std::cin, line);) {
      sequences.push_back(numbers(line.substr(0, line.find('|'))));
      labels.push_back(numbers(line.substr(line.find('|') + 1)));
    }
    ThreadPool pool(2);
    const auto backend = make_cpu_backend(pool, kernels::active_table(), Arithmetic::kFloat);
    const ModelFiles files = open_model_files(argv[1], pool);
    const ModelConfig config = read_model_config(files.config, files.config_place);
    std::vector<std::vector<OutputGradients>> found(sequences.size(), std::vector<OutputGradients>(config.layer_count));
    const auto keep = [&](uint32_t layer, size_t first_token, const OutputGradients& gradients) {
      size_t sequence = 0;
      for (; first_token > 0; ++sequence) first_token -= sequences[sequence].size();
      found[sequence][layer] = gradients;
    };
    const auto algebra = make_host_algebra(*kernels::active_table().groups, pool);
    walk_backward(files, config, sequences, {.labels = labels}, {*backend, *algebra, kernels::active_table(), pool}, keep);
    for (const auto& layers : found) {
      for (const OutputGradients& gradients : layers) {
        for (const auto& values : gradients) std::fwrite(values.data(), sizeof(float), values.size(), stdout);
      }
    }
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
