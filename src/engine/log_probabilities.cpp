#include "engine/log_probabilities.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace tritllm {
namespace {

float largest_of(std::span<const float> logits) {
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t token = 0; token < logits.size(); ++token) {
    if (std::isnan(logits[token]) || logits[token] > std::numeric_limits<float>::max()) {
      throw Error(ErrorCode::kBadInput, "logits", fmt::format("expected a number for token {}, found {}", token, logits[token]),
                  "check the model's files with tritllm verify");
    }
    largest = std::max(largest, logits[token]);
  }
  return largest;
}

}  // namespace

double log_sum_exp(std::span<const float> logits) {
  const double largest = largest_of(logits);
  if (std::isinf(largest)) throw Error(ErrorCode::kBadInput, "logits", "no token has a finite logit");
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

float log_probability(std::span<const float> logits, uint32_t token) {
  if (token >= logits.size()) {
    throw Error(ErrorCode::kBadInput, "token",
                fmt::format("expected one below the vocabulary's size of {}, found {}", logits.size(), token));
  }
  return static_cast<float>(logits[token] - log_sum_exp(logits));
}

std::vector<TokenLogProbability> top_log_probabilities(std::span<const float> logits, size_t count) {
  const double normaliser = log_sum_exp(logits);
  std::vector<uint32_t> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), 0u);
  const auto kept = static_cast<std::ptrdiff_t>(std::min(count, tokens.size()));
  std::partial_sort(tokens.begin(), tokens.begin() + kept, tokens.end(),
                    [logits](uint32_t a, uint32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  std::vector<TokenLogProbability> top;
  top.reserve(static_cast<size_t>(kept));
  for (const uint32_t token : std::span(tokens).first(static_cast<size_t>(kept))) {
    top.push_back({token, static_cast<float>(logits[token] - normaliser)});
  }
  return top;
}

}  // namespace tritllm
