#include "server/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace tritllm::server {
namespace {

constexpr double kBoundsInSeconds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};

}  // namespace

std::span<const double> Histogram::bounds() noexcept { return kBoundsInSeconds; }

void Histogram::add(double seconds) noexcept {
  static_assert(std::size(kBoundsInSeconds) == kBounds);
  ++counts_[static_cast<size_t>(std::ranges::lower_bound(kBoundsInSeconds, seconds) - std::begin(kBoundsInSeconds))];
  sum_ += seconds;
}

void Histogram::write(std::string& text, std::string_view name, std::string_view help) const {
  text += fmt::format("# HELP {} {}\n# TYPE {} histogram\n", name, help, name);
  uint64_t below = 0;
  for (size_t i = 0; i < kBounds; ++i) {
    below += counts_[i];
    text += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, kBoundsInSeconds[i], below);
  }
  below += counts_[kBounds];
  text += fmt::format("{0}_bucket{{le=\"+Inf\"}} {1}\n{0}_sum {2}\n{0}_count {1}\n", name, below, sum_);
}

void write_metric(std::string& text, std::string_view name, std::string_view type, std::string_view help, double value) {
  text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type, value);
}

void Metrics::count_accepted() {
  const std::lock_guard lock(mutex_);
  ++counts_.accepted;
}
void Metrics::count_busy() {
  const std::lock_guard lock(mutex_);
  ++counts_.refused_busy;
}
void Metrics::count_end(Outcome outcome) {
  const std::lock_guard lock(mutex_);
  ++(outcome == Outcome::kDone ? counts_.done : outcome == Outcome::kFailed ? counts_.failed : counts_.cancelled);
}
void Metrics::note_first_token(double seconds) {
  const std::lock_guard lock(mutex_);
  first_token_.add(seconds);
}
void Metrics::note_next_token(double seconds) {
  const std::lock_guard lock(mutex_);
  next_token_.add(seconds);
}
void Metrics::note_tokens(uint64_t prompt, uint64_t reused, uint64_t generated) {
  const std::lock_guard lock(mutex_);
  prompt_tokens_ += prompt;
  reused_tokens_ += reused;
  generated_tokens_ += generated;
}

RequestCounts Metrics::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

std::string Metrics::text() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  const auto counter = [&](std::string_view name, std::string_view help, uint64_t value) {
    write_metric(text, name, "counter", help, static_cast<double>(value));
  };
  counter("tritllm_requests_accepted_total", "Requests for generation that were accepted.", counts_.accepted);
  counter("tritllm_requests_done_total", "Accepted requests that were answered in full.", counts_.done);
  counter("tritllm_requests_failed_total", "Accepted requests that failed in the engine.", counts_.failed);
  counter("tritllm_requests_cancelled_total", "Accepted requests whose client left, or that the server's end cut.",
          counts_.cancelled);
  counter("tritllm_requests_refused_busy_total", "Requests refused because the queue was full.", counts_.refused_busy);
  counter("tritllm_prompt_tokens_total", "Tokens of the prompts of ended answers.", prompt_tokens_);
  counter("tritllm_prompt_tokens_reused_total", "Of these, tokens that were found in the cache.", reused_tokens_);
  counter("tritllm_generated_tokens_total", "Tokens of ended answers.", generated_tokens_);
  first_token_.write(text, "tritllm_time_to_first_token_seconds", "From the request to its first token.");
  next_token_.write(text, "tritllm_time_per_output_token_seconds", "Between two tokens of an answer.");
  return text;
}

}  // namespace tritllm::server
