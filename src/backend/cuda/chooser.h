// Owns the choice of a token for each row of logits on a CUDA device: greedily and by temperature alone there, and for rows that
// are narrowed by the specification on the host (sampling/draw.h), from the few candidates that the device finds.
#pragma once

#include <span>
#include <vector>

#include "backend/cuda/context.h"
#include "backend/cuda/objects.h"
#include "core/thread_pool.h"
#include "sampling/draw.h"

namespace tritllm::cuda {

class Chooser {
 public:
  Chooser(Context& context, ThreadPool& pool);

  // chosen[i] of row i, as the specification chooses it. Returns before the device has chosen, and waits for it where any row is
  // narrowed.
  void choose(const RowsView& logits, std::span<const DrawSettings> draws, CudaChosenTokens& chosen);

 private:
  void draw_from_all_tokens(const RowsView& logits, std::span<const WholeDraw> draws, uint32_t* chosen);
  void draw_from_candidates(const RowsView& logits, std::span<const DrawSettings> draws, std::span<const CandidateRule> rules,
                            const uint32_t* chosen);
  void draw_from_rows(const RowsView& logits, std::span<const DrawSettings> draws, std::span<const uint32_t> rows);

  Context& context_;
  ThreadPool& pool_;
  std::vector<TokenDraw> draws_;
  std::vector<uint32_t> tokens_;  // by row; kNoToken where the host does not draw
  std::vector<uint32_t> left_;    // rows that have to be read whole
  DeviceMemory rules_, states_, found_, whole_draws_, sums_;
  PinnedMemory found_on_host_;
  std::vector<float> values_;
};

}  // namespace tritllm::cuda
