// Owns how attention is cut into tasks for the threads of a CPU: blocks of neighbouring tokens, the heads that share a key/value
// head, and spans of positions, one page each. Does not own the arithmetic (kernels/attention.h), which makes every cut give the
// same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/cache.h"
#include "backend/cpu/rows.h"
#include "core/thread_pool.h"
#include "kernels/tensor_kernels.h"

namespace tritllm {

class CpuAttention {
 public:
  CpuAttention(ThreadPool& pool, const kernels::TensorKernels& kernels);

  void attend(FloatRows queries, const CpuCache& cache, const AttentionSettings& settings, const CpuStep& step, FloatRows out);

 private:
  // Consecutive tokens of one sequence.
  struct Block {
    size_t first_row, tokens;
  };
  // Spans of positions, counted from the sequence's first.
  struct SpanRange {
    size_t first, end;
  };
  // The arguments of one call, and what follows from them.
  struct Call {
    FloatRows queries;
    const CpuCache& cache;
    const AttentionSettings& settings;
    const CpuStep& step;
    FloatRows out;
    size_t shared_heads, heads;  // key/value heads, and those that share one
    size_t head_width, head_stride;
    size_t block_rows;  // of the largest block
  };
  // Room that one thread needs; grows to the largest use and stays.
  struct Scratch {
    std::vector<float> queries, scores, panel, states;
    std::vector<kernels::PositionRange> seen;
  };

  void find_blocks(std::span<const TokenPlace> places, size_t block_tokens);
  void attend_block(const Call& call, const Block& block, uint32_t shared_head, Scratch& scratch);
  void attend_split(const Call& call);
  void prepare(const Call& call, const Block& block, uint32_t shared_head, Scratch& scratch) const;
  void attend_span(const Call& call, const Block& block, uint32_t shared_head, size_t span, Scratch& scratch,
                   const kernels::AttentionState& state) const;
  void finish(const Call& call, const Block& block, uint32_t shared_head, const kernels::AttentionState& state) const;

  static kernels::PositionRange seen_by(const Call& call, size_t row) noexcept;
  static SpanRange spans_of(const Call& call, const Block& block) noexcept;
  static size_t state_floats(const Call& call) noexcept { return call.block_rows * (call.head_stride + 2); }
  static kernels::AttentionState state_at(const Call& call, float* storage) noexcept;

  ThreadPool& pool_;
  const kernels::TensorKernels& kernels_;
  std::vector<Scratch> scratch_;
  std::vector<Block> blocks_;
  std::vector<float> parts_;  // states of single spans
};

}  // namespace tritllm
