// Owns what the server counts: requests by outcome, and how long clients wait for the first token and between tokens. Does not own
// what the engine counts (EngineMetrics).
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

namespace tritllm::server {

// Seconds, in buckets as Prometheus counts them.
class Histogram {
 public:
  static std::span<const double> bounds() noexcept;
  void add(double seconds) noexcept;
  // Appends the lines NAME_bucket, NAME_sum and NAME_count.
  void write(std::string& text, std::string_view name, std::string_view help) const;

 private:
  static constexpr size_t kBounds = 16;
  std::array<uint64_t, kBounds + 1> counts_{};  // the last one: above all bounds
  double sum_ = 0;
};

// Requests for generation: accepted = done + failed + cancelled + those that are open.
struct RequestCounts {
  uint64_t accepted = 0, done = 0, failed = 0, cancelled = 0, refused_busy = 0;
};

// Thread-safe.
class Metrics {
 public:
  enum class Outcome { kDone, kFailed, kCancelled };
  void count_accepted();
  void count_busy();
  void count_end(Outcome outcome);
  void note_first_token(double seconds);
  void note_next_token(double seconds);
  void note_tokens(uint64_t prompt, uint64_t reused, uint64_t generated);

  RequestCounts counts() const;
  // The lines of these metrics in Prometheus' text format.
  std::string text() const;

 private:
  mutable std::mutex mutex_;
  RequestCounts counts_;
  uint64_t prompt_tokens_ = 0, reused_tokens_ = 0, generated_tokens_ = 0;
  Histogram first_token_, next_token_;
};

// Appends the HELP, TYPE and value lines of one number.
void write_metric(std::string& text, std::string_view name, std::string_view type, std::string_view help, double value);

}  // namespace tritllm::server
