#include "sampling/draw.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "sampling/logits.h"

namespace tritllm {

uint32_t TokenDraw::draw(std::span<const float> logits, const DrawSettings& settings) {
  const float largest = largest_logit(logits);
  if (std::isinf(largest)) {
    throw Error(ErrorCode::kBadInput, "logits", "every token is at minus infinity", "ban fewer tokens");
  }
  if (settings.temperature == 0) return static_cast<uint32_t>(std::ranges::find(logits, largest) - logits.begin());
  collect_candidates(logits, settings.top_k);
  if (settings.top_k > 0) keep_top_k(candidates_, settings.top_k);
  if (settings.typical_p < 1) keep_typical(candidates_, settings.typical_p);
  if (settings.top_p < 1) keep_top_p(candidates_, settings.top_p);
  if (settings.min_p > 0) keep_min_p(candidates_, settings.min_p);
  return pick(settings);
}

void TokenDraw::collect_candidates(std::span<const float> logits, uint32_t top_k) {
  float least = std::numeric_limits<float>::lowest();
  if (top_k > 0) least = std::max(least, logit_reached_by(logits, top_k, block_maxima_));
  candidates_.clear();
  for (size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] >= least) candidates_.push_back({static_cast<uint32_t>(token), logits[token], 0});
  }
}

uint32_t TokenDraw::pick(const DrawSettings& settings) {
  double remaining = settings.uniform * weigh(candidates_, settings.temperature);
  uint32_t chosen = candidates_.front().token;
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight == 0) continue;
    // Rounding may leave a remainder at the end: then the last possible candidate is taken.
    chosen = candidate.token;
    remaining -= candidate.weight;
    if (remaining < 0) break;
  }
  return chosen;
}

}  // namespace tritllm
