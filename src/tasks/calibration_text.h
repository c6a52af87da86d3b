// Owns the text that calibrated recipes look at a model with: files that the user gives, or text that the model writes itself. Does
// not own what is made of it (src/calibration).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "calibration/streams.h"
#include "model/config.h"

namespace tritllm {

struct CalibrationText {
  std::vector<std::filesystem::path> files;  // UTF-8; empty: the model writes the text itself
  uint32_t sequences = 64, tokens = 512;     // of each sequence
  uint64_t seed = 0;                         // of the model's own text

  bool is_own() const noexcept { return files.empty(); }
};

// For fingerprints and cards: what the text is. Reads the files' checksums.
std::string description(const CalibrationText& text);

// Windows of the files, spread evenly over them; fewer where the files are shorter. Throws an Error of kUsage where they do not
// fill one window.
TokenSequences read_calibration_text(const CalibrationText& text, const std::filesystem::path& model);

// Drawn from the model's own distribution, with nothing cut off: T = 1 is what it was trained to write, and cooler and hotter text
// calibrate worse (docs/lab/2026-11-calibration.md). Each sequence begins with what the tokenizer puts first and a random token,
// one of five of a chat model with the beginning of a user's message. `on_token` is called for each token and may throw.
TokenSequences write_calibration_text(const CalibrationText& text, const std::filesystem::path& model, const std::string& device,
                                      unsigned threads, const std::function<void()>& on_token);

// Bytes that writing takes at once.
uint64_t writing_memory(const ModelConfig& config, const CalibrationText& text) noexcept;

}  // namespace tritllm
