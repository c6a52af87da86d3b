// Measures the time to choose a token from a row of random logits: microseconds of one thread's processor time, median of 41.
#include <fmt/format.h>

#include <cstdint>
#include <random>
#include <vector>

#include "measure.h"
#include "sampling/sampler.h"

namespace {

using namespace tritllm;

struct Case {
  const char* name;
  SamplerOptions options;
};

// A normal distribution and a few tokens far above it, like the logits of a real model.
std::vector<float> random_logits(size_t vocabulary) {
  std::mt19937_64 generator(1);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(vocabulary);
  for (float& logit : logits) logit = normal(generator);
  for (size_t token = 0; token < vocabulary; token += vocabulary / 4) logits[token] += 8.0f;
  return logits;
}

double microseconds(const SamplerOptions& options, const std::vector<float>& logits) {
  Sampler sampler(options, logits.size());
  SamplerRoom room;
  std::vector<uint32_t> history;
  std::vector<double> seconds;
  for (int i = 0; i < 41; ++i) {
    seconds.push_back(seconds_of([&] { history.push_back(sampler.sample(logits, history, room)); }));
  }
  return 1e6 * median(std::move(seconds));
}

}  // namespace

int main() {
  const std::vector<Case> cases{{"greedy", {.temperature = 0.0f}},
                                {"top-k 40, top-p 0.95, temperature 0.8", {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f}},
                                {"top-p 0.9, temperature 0.6", {.temperature = 0.6f, .top_p = 0.9f}},
                                {"min-p 0.05", {.min_p = 0.05f}},
                                {"temperature 1", {}}};
  const std::vector<float> small = random_logits(49'152), large = random_logits(128'256);
  fmt::print("| us | {} tokens | {} tokens |\n|---|---|---|\n", small.size(), large.size());
  for (const Case& item : cases) {
    fmt::print("| {} | {:.0f} | {:.0f} |\n", item.name, microseconds(item.options, small), microseconds(item.options, large));
  }
  return 0;
}
