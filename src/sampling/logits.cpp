#include "sampling/logits.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace tritllm {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kBlock = 64;          // logits that share a largest one
constexpr size_t kExponentials = 256;  // computed at a time

// An integer that orders as the float does: compilers turn a search for the largest integer into vectors. A NaN orders beyond the
// infinity of its sign.
int32_t key_of(float value) noexcept {
  const auto bits = std::bit_cast<int32_t>(value);
  return bits ^ (bits >> 31 & 0x7fffffff);
}
float value_of(int32_t key) noexcept { return std::bit_cast<float>(key ^ (key >> 31 & 0x7fffffff)); }

int32_t largest_key(std::span<const float> logits) noexcept {
  int32_t largest = key_of(-kInfinity);
  for (const float logit : logits) largest = std::max(largest, key_of(logit));
  return largest;
}

int32_t smallest_key(std::span<const float> logits) noexcept {
  int32_t smallest = key_of(kInfinity);
  for (const float logit : logits) smallest = std::min(smallest, key_of(logit));
  return smallest;
}

[[noreturn]] void refuse(std::span<const float> logits) {
  const auto bad = std::find_if_not(logits.begin(), logits.end(), [](float logit) { return logit < kInfinity; });
  throw Error(ErrorCode::kBadInput, "logits", fmt::format("expected a number for token {}, found {}", bad - logits.begin(), *bad),
              "keep keys and values in f32, which FP16 may not hold (options.kv_cache f32); if that is no help, verify the model's "
              "files: its weights may be damaged");
}

// Range reduction to |r| ≤ ln2/2 in two steps (Cody and Waite, 1980), the Taylor polynomial of degree 13, whose remainder there is
// below 2^-57, and 2^whole through the exponent's bits. Adding 1.5·2^52 rounds, and leaves the whole number in the lowest bits.
double exponential(double x) noexcept {
  constexpr double kRounding = 0x1.8p52;
  const double rounded = x * 0x1.71547652b82fep0 + kRounding, whole = rounded - kRounding;
  const double r = (x - whole * 0x1.62e42fee00000p-1) - whole * 0x1.a39ef35793c76p-33;
  constexpr double kCoefficients[] = {
      1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
      1.0 / 120,       1.0 / 24,       1.0 / 6,       1.0 / 2,      1.0,         1.0};
  double sum = 1.0 / 6227020800;
  for (const double coefficient : kCoefficients) sum = sum * r + coefficient;
  const uint64_t bits = std::bit_cast<uint64_t>(sum) + (std::bit_cast<uint64_t>(rounded) << 52);
  return std::bit_cast<double>(bits & -uint64_t{x >= -708.0});
}

}  // namespace

float largest_logit(std::span<const float> logits) {
  const int32_t largest = largest_key(logits);
  if (largest >= key_of(kInfinity) || smallest_key(logits) < key_of(-kInfinity)) refuse(logits);
  return value_of(largest);
}

float logit_reached_by(std::span<const float> logits, size_t count, std::vector<int32_t>& room) {
  room.clear();
  for (size_t first = 0; first < logits.size(); first += kBlock) {
    room.push_back(largest_key(logits.subspan(first, std::min(kBlock, logits.size() - first))));
  }
  if (count > room.size()) return -kInfinity;
  if (count == 0) return kInfinity;
  // Each of the `count` blocks with the largest maxima holds a logit that reaches the least of these maxima.
  const auto last = room.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(room.begin(), last, room.end(), std::greater<>());
  return value_of(*last);
}

void exponentiate(std::span<double> values) noexcept {
  for (double& value : values) value = exponential(value);
}

double log_sum_exp(std::span<const float> logits) {
  const double largest = largest_logit(logits);
  if (std::isinf(largest)) throw Error(ErrorCode::kBadInput, "logits", "no token has a finite logit");
  double sum = 0, block[kExponentials];
  for (size_t first = 0; first < logits.size(); first += kExponentials) {
    const auto part = logits.subspan(first, std::min(kExponentials, logits.size() - first));
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
