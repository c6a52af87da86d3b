// Owns how often each token occurred among the last ones. Does not own what a sampler makes of that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tritllm {

class RecentTokens {
 public:
  // Remembers the last `window` tokens; kWholeContext (sampling/sampler_options.h) remembers all.
  RecentTokens(size_t vocabulary_size, uint32_t window);

  // `token` is below the vocabulary's size.
  void add(uint32_t token);

  // One number for each token of the vocabulary.
  std::span<const uint32_t> counts() const noexcept { return counts_; }

 private:
  uint32_t window_;
  std::vector<uint32_t> counts_;
  // A ring once `window` tokens are in it; it grows up to there, so a window longer than any text costs nothing.
  std::vector<uint32_t> last_;
  size_t oldest_ = 0;
};

}  // namespace tritllm
