// Owns the choice of a token for each row of logits on a CUDA device: greedily there, and for rows that draw by the specification
// on the host (sampling/draw.h), from the few candidates that the device finds.
#pragma once

#include <optional>
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

  // chosen[i] of row i, as the specification chooses it. Returns before greedy choices are made; waits for the device where any row
  // draws.
  void choose(const RowsView& logits, std::span<const DrawSettings> draws, CudaChosenTokens& chosen);

 private:
  // Rows at once: more are found in turns.
  static constexpr size_t kRowsAtOnce = 64;

  void draw_from_candidates(const RowsView& logits, std::span<const DrawSettings> draws, std::span<const CandidateRule> rules,
                            const uint32_t* chosen);
  void draw_from_rows(const RowsView& logits, std::span<const DrawSettings> draws, std::span<const uint32_t> rows);

  Context& context_;
  ThreadPool& pool_;
  std::vector<TokenDraw> draws_;
  std::vector<uint32_t> tokens_;  // by row; kNoToken where a row is not drawn or cannot be
  std::vector<uint32_t> left_;    // rows that have to be read whole
  DeviceMemory rules_, states_, found_;
  PinnedMemory found_on_host_;
  std::vector<float> values_;
};

}  // namespace tritllm::cuda
