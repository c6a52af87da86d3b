#include "text/text_budget.h"

#include <fmt/format.h>
#include <time.h>

#include "core/error.h"

namespace tritllm {
namespace {

// NFKD makes 11 bytes of one in the worst case, mapping bytes to visible characters doubles them, and several steps may each copy
// the text.
constexpr size_t kProducedPerByte = 64;

// One second of processor time per MiB; sensible files take a tenth. Instrumented code is slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kNsPerByte = 10'000;
#else
constexpr int64_t kNsPerByte = 954;
#endif

int64_t processor_time_ns() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

void TextBudget::allow(size_t bytes) {
  text_bytes_ += bytes;
  producible_ += bytes * kProducedPerByte;
  allowed_ns_ += static_cast<int64_t>(bytes) * kNsPerByte;
}

void TextBudget::produce(size_t bytes, const std::string& where) {
  if (bytes <= producible_) {
    producible_ -= bytes;
    return;
  }
  throw Error(ErrorCode::kUnsupported, where,
              fmt::format("this step and those before it make more than {} bytes of a text of {}; the limit is {} for each byte",
                          text_bytes_ * kProducedPerByte, text_bytes_, kProducedPerByte),
              "use a model whose tokenizer.json does not multiply texts");
}

void TextBudget::check_time(const std::string& where) {
  unread_ = 0;
  const int64_t now = processor_time_ns();
  if (last_look_) allowed_ns_ -= now - *last_look_;
  last_look_ = now;
  if (allowed_ns_ >= 0) return;
  throw Error(ErrorCode::kUnsupported, where,
              fmt::format("the steps up to this one take more than a second per MiB for a text of {} bytes", text_bytes_),
              "use a model whose tokenizer.json has simpler patterns and fewer steps");
}

}  // namespace tritllm
