#include "sampling/log_probabilities.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "sampling/logits.h"

namespace tritllm {
namespace {

// Logits whose exponentials are computed at a time.
constexpr size_t kBlock = 256;

}  // namespace

double log_sum_exp(std::span<const float> logits) {
  const double largest = largest_logit(logits);
  if (std::isinf(largest)) throw Error(ErrorCode::kBadInput, "logits", "no token has a finite logit");
  double sum = 0, block[kBlock];
  for (size_t first = 0; first < logits.size(); first += kBlock) {
    const auto part = logits.subspan(first, std::min(kBlock, logits.size() - first));
    std::transform(part.begin(), part.end(), block, [largest](float logit) { return logit - largest; });
    exponentiate(std::span(block).first(part.size()));
    sum = std::accumulate(block, block + part.size(), sum);
  }
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
