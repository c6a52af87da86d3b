#include "sampling/recent_tokens.h"

#include <utility>

#include "sampling/sampler_options.h"

namespace tritllm {

RecentTokens::RecentTokens(size_t vocabulary_size, uint32_t window) : window_(window), counts_(vocabulary_size) {}

void RecentTokens::add(uint32_t token) {
  if (window_ == 0) return;
  ++counts_[token];
  if (window_ == kWholeContext) return;
  if (last_.size() < window_) {
    last_.push_back(token);
    return;
  }
  --counts_[std::exchange(last_[oldest_], token)];
  oldest_ = (oldest_ + 1) % window_;
}

}  // namespace tritllm
