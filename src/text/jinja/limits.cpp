#include "text/jinja/limits.h"

#include <fmt/format.h>

#include "core/error.h"

namespace tritllm::jinja {

void fail(std::string_view problem) { throw Error(ErrorCode::kBadInput, {}, problem); }

void refuse(std::string_view construct) {
  throw Error(ErrorCode::kUnsupported, {}, fmt::format("{} is not supported in chat templates", construct),
              "docs/chat_templates.md lists what is");
}

Budget::Budget(uint64_t input_bytes, uint64_t messages)
    : steps_(kStepLimit + kStepsPerMessage * messages),
      work_limit_(kWorkLimit + kWorkPerByte * input_bytes + kWorkPerMessage * messages),
      work_(work_limit_),
      output_limit_(kOutputLimit + kOutputPerByte * input_bytes),
      output_(output_limit_) {}

void Budget::steps(uint64_t count) {
  if (count > steps_) fail("the template takes more steps than the limit allows");
  steps_ -= count;
}

void Budget::work(uint64_t bytes) {
  if (bytes > work_) {
    fail(fmt::format("the template handles more than {} bytes of text, the limit for a request of this length", work_limit_));
  }
  work_ -= bytes;
}

void Budget::output(uint64_t bytes) {
  if (bytes > output_) {
    fail(fmt::format("the template prints more than {} bytes, the limit for a request of this length", output_limit_));
  }
  output_ -= bytes;
}

Budget::Level::Level(Budget& budget) : budget_(budget) {
  if (budget.depth_ >= kCallDepth) fail(fmt::format("calls and expressions nest deeper than the limit of {} levels", kCallDepth));
  ++budget.depth_;
}

}  // namespace tritllm::jinja
