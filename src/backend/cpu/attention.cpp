#include "backend/cpu/attention.h"

#include <algorithm>

namespace tritllm {

using kernels::AttentionState;
using kernels::kSpanPositions;
using kernels::PositionRange;

namespace {

// Rows, tokens times heads, of a task: keys and values are converted once for all of them, and their scores stay in a second-level
// cache.
constexpr size_t kBlockRows = 64;
// With fewer tasks than this for each thread, some threads would wait long for the last; then spans become tasks of their own.
constexpr size_t kTasksPerThread = 16;

}  // namespace

CpuAttention::CpuAttention(ThreadPool& pool, const kernels::TensorKernels& kernels)
    : pool_(pool), kernels_(kernels), scratch_(pool.threads()) {}

void CpuAttention::attend(FloatRows queries, const CpuCache& cache, const AttentionSettings& settings, const CpuStep& step,
                          FloatRows out) {
  const size_t shared_heads = cache.shape().key_value_heads, heads = settings.heads / shared_heads;
  const size_t block_tokens = std::max<size_t>(1, kBlockRows / heads), width = cache.shape().head_width;
  find_blocks(step.places(), block_tokens);
  size_t most_tokens = 0;
  for (const Block& block : blocks_) most_tokens = std::max(most_tokens, block.tokens);
  const Call call{queries, cache, settings, step, out, shared_heads, heads, width, kernels::padded_row(width), most_tokens * heads};
  const size_t tasks = blocks_.size() * shared_heads;
  if (pool_.threads() > 1 && tasks < kTasksPerThread * pool_.threads()) return attend_split(call);
  pool_.parallel_for(tasks, [&](size_t task, unsigned worker) {
    attend_block(call, blocks_[task / shared_heads], static_cast<uint32_t>(task % shared_heads), scratch_[worker]);
  });
}

void CpuAttention::find_blocks(std::span<const TokenPlace> places, size_t block_tokens) {
  blocks_.clear();
  for (size_t row = 0; row < places.size(); ++row) {
    const TokenPlace place = places[row];
    if (!blocks_.empty()) {
      Block& last = blocks_.back();
      const TokenPlace first = places[last.first_row];
      if (last.tokens < block_tokens && first.sequence == place.sequence && first.position + last.tokens == place.position) {
        ++last.tokens;
        continue;
      }
    }
    blocks_.push_back({row, 1});
  }
}

PositionRange CpuAttention::seen_by(const Call& call, size_t row) noexcept {
  const uint32_t end = call.step.places()[row].position + 1, window = call.settings.window;
  return {window != 0 && end > window ? end - window : 0, end};
}

CpuAttention::SpanRange CpuAttention::spans_of(const Call& call, const Block& block) noexcept {
  const size_t first = seen_by(call, block.first_row).first, end = seen_by(call, block.first_row + block.tokens - 1).end;
  return {first / kSpanPositions, (end + kSpanPositions - 1) / kSpanPositions};
}

AttentionState CpuAttention::state_at(const Call& call, float* storage) noexcept {
  float* const largest = storage + call.block_rows * call.head_stride;
  return {storage, largest, largest + call.block_rows};
}

void CpuAttention::attend_block(const Call& call, const Block& block, uint32_t shared_head, Scratch& scratch) {
  float* const states = sized(scratch.states, 2 * state_floats(call));
  const AttentionState all = state_at(call, states), one = state_at(call, states + state_floats(call));
  const SpanRange spans = spans_of(call, block);
  prepare(call, block, shared_head, scratch);
  for (size_t span = spans.first; span < spans.end; ++span) {
    attend_span(call, block, shared_head, span, scratch, span == spans.first ? all : one);
    if (span != spans.first) kernels_.merge(one, block.tokens * call.heads, call.head_stride, all);
  }
  finish(call, block, shared_head, all);
}

void CpuAttention::attend_split(const Call& call) {
  size_t most_spans = 0;
  for (const Block& block : blocks_) {
    const SpanRange spans = spans_of(call, block);
    most_spans = std::max(most_spans, spans.end - spans.first);
  }
  const size_t whole = blocks_.size() * call.shared_heads, room = state_floats(call);
  // Decode allocates for the longest context at once, so that no token allocates later. Blocks of prefill are many times as large.
  const bool one_by_one = call.block_rows == call.heads;
  float* const parts = sized(parts_, whole * (one_by_one ? call.step.pages_per_sequence() : most_spans) * room);
  const auto state = [&](size_t task, size_t span) { return state_at(call, parts + (task * most_spans + span) * room); };
  pool_.parallel_for(whole * most_spans, [&](size_t index, unsigned worker) {
    const size_t task = index / most_spans, span = index % most_spans;
    const Block& block = blocks_[task / call.shared_heads];
    const auto shared_head = static_cast<uint32_t>(task % call.shared_heads);
    const SpanRange spans = spans_of(call, block);
    if (span >= spans.end - spans.first) return;
    prepare(call, block, shared_head, scratch_[worker]);
    attend_span(call, block, shared_head, spans.first + span, scratch_[worker], state(task, span));
  });
  pool_.parallel_for(whole, [&](size_t task, unsigned) {
    const Block& block = blocks_[task / call.shared_heads];
    const SpanRange spans = spans_of(call, block);
    for (size_t span = 1; span < spans.end - spans.first; ++span) {
      kernels_.merge(state(task, span), block.tokens * call.heads, call.head_stride, state(task, 0));
    }
    finish(call, block, static_cast<uint32_t>(task % call.shared_heads), state(task, 0));
  });
}

void CpuAttention::prepare(const Call& call, const Block& block, uint32_t shared_head, Scratch& scratch) const {
  const size_t rows = call.block_rows, stride = call.head_stride, width = call.head_width;
  sized(scratch.queries, rows * stride);
  sized(scratch.scores, rows * kernels::kScoreStride);
  sized(scratch.panel, kernels::attention_panel_floats(stride));
  if (scratch.seen.size() < rows) scratch.seen.resize(rows);
  float* to = scratch.queries.data();
  for (size_t token = 0; token < block.tokens; ++token) {
    const float* const row = call.queries.row(block.first_row + token);
    for (size_t head = 0; head < call.heads; ++head, to += stride) {
      const float* const from = row + (shared_head * call.heads + head) * width;
      std::transform(from, from + width, to, [&](float value) { return value * call.settings.scale; });
      std::fill(to + width, to + stride, 0.0f);
    }
  }
}

void CpuAttention::attend_span(const Call& call, const Block& block, uint32_t shared_head, size_t span, Scratch& scratch,
                               const AttentionState& state) const {
  const auto first = static_cast<uint32_t>(span * kSpanPositions), end = first + static_cast<uint32_t>(kSpanPositions);
  for (size_t token = 0; token < block.tokens; ++token) {
    const PositionRange seen = seen_by(call, block.first_row + token);
    PositionRange within{std::max(seen.first, first) - first, std::clamp(seen.end, first, end) - first};
    if (within.first >= within.end) within = {0, 0};
    std::fill_n(scratch.seen.begin() + static_cast<std::ptrdiff_t>(token * call.heads), call.heads, within);
  }
  const PageId page = call.step.page(call.step.places()[block.first_row].sequence, span);
  kernels_.attend[static_cast<size_t>(call.cache.shape().type)](
      {.queries = scratch.queries.data(),
       .seen = scratch.seen.data(),
       .rows = block.tokens * call.heads,
       .head_stride = call.head_stride,
       .keys = call.cache.keys(call.settings.layer, page, shared_head),
       .values = call.cache.values(call.settings.layer, page, shared_head),
       .value_stride = kCpuPagePositions,
       .key_scales = call.cache.key_scales(call.settings.layer, page, shared_head),
       .value_scales = call.cache.value_scales(call.settings.layer, page, shared_head),
       .softcap = call.settings.softcap,
       .scores = scratch.scores.data(),
       .panel = scratch.panel.data(),
       .state = state});
}

void CpuAttention::finish(const Call& call, const Block& block, uint32_t shared_head, const AttentionState& state) const {
  const float* from = state.sums;
  const float* total = state.totals;
  for (size_t token = 0; token < block.tokens; ++token) {
    float* const row = call.out.row(block.first_row + token);
    for (size_t head = 0; head < call.heads; ++head, from += call.head_stride, ++total) {
      const float inverse = 1.0f / *total;
      std::transform(from, from + call.head_width, row + (shared_head * call.heads + head) * call.head_width,
                     [&](float value) { return value * inverse; });
    }
  }
}

}  // namespace tritllm
