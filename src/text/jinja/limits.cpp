#include "text/jinja/limits.h"

#include <fmt/format.h>

#include "core/error.h"

namespace tritllm::jinja {

void fail(std::string_view problem) { throw Error(ErrorCode::kBadInput, {}, problem); }

void refuse(std::string_view construct) {
  throw Error(ErrorCode::kUnsupported, {}, fmt::format("{} is not supported in chat templates", construct),
              "docs/chat_templates.md lists what is");
}

void Budget::steps(uint64_t count) {
  if (count > steps_) fail("the template takes more steps than the limit allows");
  steps_ -= count;
}

void Budget::work(uint64_t bytes) {
  if (bytes > work_) fail(fmt::format("the template handles more than the limit of {} bytes of text", kWorkLimit));
  work_ -= bytes;
}

Budget::Level::Level(Budget& budget) : budget_(budget) {
  if (budget.depth_ >= kCallDepth) fail(fmt::format("calls and expressions nest deeper than the limit of {} levels", kCallDepth));
  ++budget.depth_;
}

}  // namespace tritllm::jinja
