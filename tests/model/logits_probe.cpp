// Owns the program by which Python tests and scripts see a model's logits: token ids in, raw float32 out.
//
//   logits_probe MODEL MODE [--threads N] [--cache f32] [--device cpu] [--activations int8]
//
// Each line of standard input is a sequence of token ids. MODE is "prefill" (one pass), "chunked:N" (passes of N tokens), "steps"
// (a token at a time) or "together" (all sequences in one batch, a token of each at a time). Standard output gets [tokens,
// vocabulary] for each sequence, one after the other.
#include <fmt/format.h>

#include <cstdio>
#include <iostream>
#include <numeric>
#include <sstream>

#include "backend/device.h"
#include "core/error.h"
#include "model/model.h"
#include "model/plain_sequences.h"

namespace {

using namespace tritllm;

std::vector<std::vector<uint32_t>> read_sequences() {
  std::vector<std::vector<uint32_t>> sequences;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::vector<uint32_t> tokens;
    for (uint32_t token = 0; words >> token;) tokens.push_back(token);
    if (!tokens.empty()) sequences.push_back(std::move(tokens));
  }
  return sequences;
}

class Probe {
 public:
  Probe(Model& model, std::vector<std::vector<uint32_t>> sequences, CacheType type)
      : model_(model), sequences_(std::move(sequences)), computed_(model, static_cast<uint32_t>(sequences_.size()), type) {
    for (const auto& sequence : sequences_) logits_.emplace_back(sequence.size() * model.config().vocabulary);
  }

  // Tokens [first, first + count) of one sequence.
  void pass(size_t sequence, size_t first, size_t count) {
    std::vector<TokenPlace> places;
    std::vector<uint32_t> rows;
    for (size_t i = 0; i < count; ++i) {
      places.push_back({static_cast<uint32_t>(sequence), static_cast<uint32_t>(first + i)});
      rows.push_back(static_cast<uint32_t>(i));
    }
    computed_.forward(std::span(sequences_[sequence]).subspan(first, count), places, rows);
    computed_.logits(0, count, std::span(logits_[sequence]).subspan(first * model_.config().vocabulary));
  }

  void pass_together(size_t position) {
    std::vector<TokenPlace> places;
    std::vector<uint32_t> tokens;
    for (size_t i = 0; i < sequences_.size(); ++i) {
      if (position >= sequences_[i].size()) continue;
      places.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(position)});
      tokens.push_back(sequences_[i][position]);
    }
    std::vector<uint32_t> rows(tokens.size());
    std::iota(rows.begin(), rows.end(), 0u);
    computed_.forward(tokens, places, rows);
    for (size_t row = 0; row < places.size(); ++row) {
      computed_.logits(row, 1, std::span(logits_[places[row].sequence]).subspan(position * model_.config().vocabulary));
    }
  }

  void run(const std::string& mode) {
    if (mode == "together") {
      size_t longest = 0;
      for (const auto& sequence : sequences_) longest = std::max(longest, sequence.size());
      for (size_t position = 0; position < longest; ++position) pass_together(position);
      return;
    }
    const size_t chunk = mode == "prefill" ? SIZE_MAX : mode == "steps" ? 1 : std::stoul(mode.substr(mode.find(':') + 1));
    for (size_t i = 0; i < sequences_.size(); ++i) {
      for (size_t first = 0; first < sequences_[i].size(); first += std::min(chunk, sequences_[i].size() - first)) {
        pass(i, first, std::min(chunk, sequences_[i].size() - first));
      }
    }
  }

  void write() const {
    for (const auto& logits : logits_) std::fwrite(logits.data(), sizeof(float), logits.size(), stdout);
  }

 private:
  Model& model_;
  std::vector<std::vector<uint32_t>> sequences_;
  PlainSequences computed_;
  std::vector<std::vector<float>> logits_;
};

}  // namespace

int main(int argc, char** argv) {
  try {
    unsigned threads = 2;
    CacheType type = CacheType::kFloat32;
    std::string device = "cpu";
    Arithmetic arithmetic = Arithmetic::kInteger;
    for (int i = 3; i + 1 < argc; i += 2) {
      const std::string_view option = argv[i], value = argv[i + 1];
      if (option == "--threads") threads = static_cast<unsigned>(std::stoul(argv[i + 1]));
      if (option == "--cache") type = cache_type_named(value).value();
      if (option == "--device") device = value;
      if (option == "--activations" && value == "f32") arithmetic = Arithmetic::kFloat;
    }
    ThreadPool pool(threads);
    const auto backend = make_backend(device, arithmetic, pool);
    auto sequences = read_sequences();
    uint32_t longest = 1;
    for (const auto& sequence : sequences) longest = std::max(longest, static_cast<uint32_t>(sequence.size()));
    const auto count = static_cast<uint32_t>(sequences.size());
    Model model(open_model_files(argv[1], pool), {.positions = longest, .batch_tokens = std::max(longest, count)}, *backend);
    Probe probe(model, std::move(sequences), type);
    probe.run(argv[2]);
    probe.write();
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
