// Owns the sampler's chain written from its definitions: whole sorts, long double, one pass per rule, and no code massd with
// src/engine. Slow on purpose.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "sampling/sampler_options.h"

namespace tritllm::reference {

struct Entry {
  uint32_t token;
  long double logit;
};

inline std::vector<long double> probabilities(const std::vector<Entry>& entries, long double temperature = 1) {
  std::vector<long double> result;
  long double largest = entries[0].logit, total = 0;
  for (const Entry& entry : entries) largest = std::max(largest, entry.logit);
  for (const Entry& entry : entries) result.push_back(std::exp((entry.logit - largest) / temperature));
  for (const long double p : result) total += p;
  for (long double& p : result) p /= total;
  return result;
}

// The entries in ascending order of `keys`, then of logit (descending), then of token.
inline std::vector<Entry> sorted_by(const std::vector<Entry>& entries, const std::vector<long double>& keys) {
  std::vector<size_t> order(entries.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (keys[a] != keys[b]) return keys[a] < keys[b];
    if (entries[a].logit != entries[b].logit) return entries[a].logit > entries[b].logit;
    return entries[a].token < entries[b].token;
  });
  std::vector<Entry> result;
  for (const size_t i : order) result.push_back(entries[i]);
  return result;
}

inline std::vector<Entry> by_probability(const std::vector<Entry>& entries) {
  return sorted_by(entries, std::vector<long double>(entries.size(), 0));
}

inline std::vector<Entry> beginning_with(const std::vector<Entry>& sorted, const std::vector<Entry>& all, long double mass) {
  const std::vector<long double> p = probabilities(all);
  std::vector<Entry> kept;
  long double sum = 0;
  for (const Entry& entry : sorted) {
    kept.push_back(entry);
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i].token == entry.token) sum += p[i];
    }
    if (sum >= mass) break;
  }
  return kept;
}

inline std::vector<Entry> top_k(const std::vector<Entry>& entries, uint32_t count) {
  std::vector<Entry> kept = by_probability(entries);
  if (kept.size() > count) kept.resize(count);
  return kept;
}

inline std::vector<Entry> top_p(const std::vector<Entry>& entries, long double mass) {
  return beginning_with(by_probability(entries), entries, mass);
}

// Meister et al., "Locally typical sampling": the distance of each token's surprise from the entropy.
inline std::vector<Entry> typical_p(const std::vector<Entry>& entries, long double mass) {
  const std::vector<long double> p = probabilities(entries);
  long double entropy = 0;
  for (const long double q : p) entropy -= q > 0 ? q * std::log(q) : 0;
  std::vector<long double> distance;
  for (const long double q : p) distance.push_back(std::abs(-std::log(q) - entropy));
  return beginning_with(sorted_by(entries, distance), entries, mass);
}

inline std::vector<Entry> min_p(const std::vector<Entry>& entries, long double ratio) {
  const std::vector<long double> p = probabilities(entries);
  const long double largest = *std::max_element(p.begin(), p.end());
  std::vector<Entry> kept;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (p[i] >= ratio * largest) kept.push_back(entries[i]);
  }
  return kept;
}

// In float, as the rules say what is added, divided and subtracted, so that ties stay ties.
inline std::vector<Entry> adjusted(const SamplerOptions& options, const std::vector<float>& logits,
                                   const std::vector<uint32_t>& history) {
  std::vector<Entry> entries;
  for (uint32_t token = 0; token < logits.size(); ++token) {
    float logit = logits[token];
    for (const LogitBias& entry : options.logit_bias) {
      if (entry.token == token) logit += entry.bias;
    }
    unsigned count = 0;
    for (size_t back = 1; back <= history.size() && back <= options.penalty_window; ++back) {
      count += history[history.size() - back] == token;
    }
    if (count > 0) {
      if (logit > 0) {
        logit /= options.repeat_penalty;
      } else {
        logit *= options.repeat_penalty;
      }
      logit -= static_cast<float>(count) * options.frequency_penalty + options.presence_penalty;
    }
    if (!std::isinf(logit)) entries.push_back({token, logit});
  }
  return entries;
}

// The probability of each token.
inline std::vector<double> distribution(const SamplerOptions& options, const std::vector<float>& logits,
                                        const std::vector<uint32_t>& history) {
  std::vector<Entry> entries = adjusted(options, logits, history);
  if (options.top_k > 0) entries = top_k(entries, options.top_k);
  if (options.typical_p < 1) entries = typical_p(entries, options.typical_p);
  if (options.top_p < 1) entries = top_p(entries, options.top_p);
  if (options.min_p > 0) entries = min_p(entries, options.min_p);
  std::vector<double> result(logits.size());
  const std::vector<long double> p = probabilities(entries, options.temperature);
  for (size_t i = 0; i < entries.size(); ++i) result[entries[i].token] = static_cast<double>(p[i]);
  return result;
}

// From a generator's raw numbers, so that every standard library makes the same test.
inline float gaussian(std::mt19937_64& generator) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += static_cast<double>(generator() >> 11) * 0x1p-53;
  return static_cast<float>(sum);
}

inline std::vector<float> gaussian_row(std::mt19937_64& generator, size_t size, float spread) {
  std::vector<float> row(size);
  for (float& value : row) value = spread * gaussian(generator);
  return row;
}

}  // namespace tritllm::reference
