#include "tasks/quantize_command.h"

#include <fmt/format.h>

#include "tasks/model_calibration.h"

namespace tritllm {

namespace {

// Quoted where it holds anything but plain characters.
std::string shell_word(const std::string& word) {
  const auto special = word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=-");
  if (special == word.npos && !word.empty()) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string calibration_options(const CalibrationText& text) {
  const CalibrationText usual;
  std::string options;
  for (const auto& file : text.files) options += fmt::format(" --calibration {}", shell_word(file.filename().string()));
  if (text.sequences != usual.sequences) options += fmt::format(" --calibration-sequences {}", text.sequences);
  if (text.tokens != usual.tokens) options += fmt::format(" --calibration-tokens {}", text.tokens);
  if (text.seed != usual.seed) options += fmt::format(" --seed {}", text.seed);
  return options;
}

}  // namespace

std::string command_options(const QuantizeOptions& options, codec::Config config) {
  std::string text;
  for (const DepthRule& rule : options.policy.rules) {
    const std::string depth = rule.depth ? fmt::format("{}", *rule.depth) : "keep";
    text += fmt::format(" --depth {}", shell_word(fmt::format("{}={}", rule.pattern, depth)));
  }
  if (options.policy.embedding_depth) text += fmt::format(" --embed-depth {}", *options.policy.embedding_depth);
  if (options.policy.head_depth) text += fmt::format(" --head-depth {}", *options.policy.head_depth);
  if (options.card.name) text += fmt::format(" --name {}", shell_word(*options.card.name));
  if (options.card.license) text += fmt::format(" --license {}", shell_word(*options.card.license));
  if (calibrates(config)) text += calibration_options(options.calibration);
  if (mixes_depths(config) && options.bits) text += fmt::format(" --bits {}", *options.bits);
  if (mixes_depths(config) && options.size) text += fmt::format(" --size {}", *options.size);
  return text;
}

}  // namespace tritllm
