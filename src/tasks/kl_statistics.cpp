#include "tasks/kl_statistics.h"

#include <algorithm>
#include <cmath>

#include "sampling/logits.h"

namespace tritllm {

Estimate mean_estimate(std::span<const double> values) {
  const auto count = static_cast<double>(values.size());
  double sum = 0.0, squares = 0.0;
  for (const double value : values) sum += value;
  const double mean = sum / count;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? 0.0 : std::sqrt(squares / (count - 1.0) / count)};
}

Estimate quantile_estimate(std::span<const double> sorted, double share) {
  const double last = static_cast<double>(sorted.size()) - 1.0;
  const auto at_rank = [&](double rank) {
    const double bounded = std::clamp(rank, 0.0, last), below = std::floor(bounded);
    const auto index = static_cast<size_t>(below);
    const double next = sorted[std::min(index + 1, sorted.size() - 1)];
    return sorted[index] + (bounded - below) * (next - sorted[index]);
  };
  const double spread = std::sqrt(static_cast<double>(sorted.size()) * share * (1.0 - share));
  return {at_rank(last * share), (at_rank(last * share + spread) - at_rank(last * share - spread)) / 2.0};
}

Estimate exponential_estimate(const Estimate& mean) {
  const double value = std::exp(mean.value);
  return {value, value * mean.standard_error};
}

double negative_log_likelihood(std::span<const float> logits, uint32_t target) {
  return log_sum_exp(logits) - double{logits[target]};
}

RowComparison compare_rows(std::span<const float> logits, std::span<const float> reference, uint32_t target) {
  const double own_sum = log_sum_exp(logits), reference_sum = log_sum_exp(reference);
  const auto log_total = static_cast<float>(reference_sum);
  double difference = 0.0, mass = 0.0;
  for (size_t token = 0; token < logits.size(); ++token) {
    const auto probability = double{std::exp(reference[token] - log_total)};
    if (probability == 0.0) continue;
    mass += probability;
    difference += probability * (double{reference[token]} - double{logits[token]});
  }
  // Dividing by the mass takes the rounding of log_total out.
  const double divergence = difference / mass - reference_sum + own_sum;
  const auto top = std::max_element(logits.begin(), logits.end()) - logits.begin();
  const auto reference_top = std::max_element(reference.begin(), reference.end()) - reference.begin();
  return {own_sum - double{logits[target]}, reference_sum - double{reference[target]}, std::max(0.0, divergence),
          top == reference_top};
}

}  // namespace tritllm
