// Owns what one text may cost on its way through a tokenizer: how many bytes the steps may produce and how much processor time they
// may take, both in proportion to the text. A tokenizer.json is not trusted: forty steps that each double a text, or a pattern that
// backtracks at every letter, must end in an error and not in a hung program. docs/tokenizer.md lists the limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace tritllm {

class TextBudget {
 public:
  explicit TextBudget(size_t text_bytes) { allow(text_bytes); }

  // Raises the limits by what `bytes` more of the text are worth.
  void allow(size_t bytes);

  // Charges the bytes that a step produces, before it produces them. `where` names the step in the error.
  void produce(size_t bytes, const std::string& where);

  // Charges time, in units of about 100 ns. The clock is read now and then only.
  void work(size_t units, const std::string& where) {
    unread_ += units;
    if (unread_ >= kUnitsBetweenLooks) check_time(where);
  }

  // Reads the clock. An Error where the time is used up.
  void check_time(const std::string& where);

  // Time passes for something else until the next charge.
  void pause() noexcept { last_look_.reset(); }

 private:
  static constexpr size_t kUnitsBetweenLooks = 256;

  size_t producible_ = size_t{64} << 10;
  size_t text_bytes_ = 0;
  size_t unread_ = 0;
  int64_t allowed_ns_ = 250'000'000;
  std::optional<int64_t> last_look_;  // of the thread's processor time, in ns
};

}  // namespace tritllm
