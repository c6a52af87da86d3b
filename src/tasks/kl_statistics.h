// Owns the figures that compare a model with its reference, token by token, and their standard errors. Does not own where the
// numbers come from (evaluate.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tritllm {

// A figure and the standard error of its estimate, both over scored tokens taken as independent.
struct Estimate {
  double value = 0, standard_error = 0;
};

Estimate mean_estimate(std::span<const double> values);

// The quantile at `share`; its error is half the distance between the values at the ranks one binomial standard deviation away
// (David and Nagaraja, Order Statistics, 3rd edition, section 7.1). Needs at least one value; reorders nothing.
Estimate quantile_estimate(std::span<const double> sorted, double share);

// exp of a mean, by the delta method: error exp(mean)·error(mean).
Estimate exponential_estimate(const Estimate& mean);

// What one row of logits says of a token, and of another model's row.
struct RowComparison {
  double negative_log_likelihood;            // −log p(target)
  double reference_negative_log_likelihood;  // by the reference
  double kl_divergence;                      // Σ p_reference·log(p_reference / p), nats, never below 0
  bool same_top;                             // the most probable token is the same; of equal ones the lowest counts
};

double negative_log_likelihood(std::span<const float> logits, uint32_t target);
RowComparison compare_rows(std::span<const float> logits, std::span<const float> reference, uint32_t target);

}  // namespace tritllm
