// Owns the memory behind the interface's handles: rows, vectors, rotary tables, caches, steps, chosen tokens, moments. Does not own
// what is computed with them (backend.cpp).
#pragma once

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/context.h"
#include "backend/cuda/launch.h"
#include "core/checked.h"
#include "core/error.h"

namespace tritllm::cuda {

// The object of this backend behind a handle.
template <typename Own, typename Interface>
Own& own(Interface& object) noexcept {
  assert(dynamic_cast<Own*>(&object) != nullptr);
  return static_cast<Own&>(object);
}

class CudaRows final : public RowBuffer {
 public:
  CudaRows(Context& context, size_t capacity, size_t width)
      : RowBuffer(capacity, width), stride_((width + 3) / 4 * 4), memory_(context, capacity * stride_ * sizeof(float)) {
    context.clear(memory_.as<void>(), memory_.bytes());
  }
  RowsView view(size_t first, size_t count) const noexcept {
    return {memory_.as<float>() + first * stride_, static_cast<int64_t>(stride_), static_cast<int32_t>(count),
            static_cast<int32_t>(width())};
  }

 private:
  size_t stride_;  // a multiple of four: rows are 16-byte aligned
  DeviceMemory memory_;
};

inline RowsView view_of(Rows rows) noexcept { return own<CudaRows>(*rows.buffer).view(rows.first, rows.count); }

class CudaVector final : public DeviceVector {
 public:
  CudaVector(Context& context, std::span<const float> values) : width_(values.size()), memory_(context, values.size_bytes()) {
    context.upload(values.data(), memory_.as<void>(), values.size_bytes());
    context.wait();
  }
  size_t width() const noexcept override { return width_; }
  const float* data() const noexcept { return memory_.as<float>(); }

 private:
  size_t width_;
  DeviceMemory memory_;
};

class CudaRotaryTable final : public RotaryTable {
 public:
  CudaRotaryTable(Context& context, const RotaryFrequencies& frequencies, uint32_t positions)
      : pairs_(frequencies.inverse_wavelengths.size()),
        memory_(context, 2 * positions * pairs_ * sizeof(float)),
        sines_(positions * pairs_) {
    std::vector<float> values(2 * sines_);
    for (size_t position = 0; position < positions; ++position) {
      for (size_t pair = 0; pair < pairs_; ++pair) {
        // As transformers computes them: angle, cosine and sine in float32.
        const float angle = static_cast<float>(position) * frequencies.inverse_wavelengths[pair];
        values[position * pairs_ + pair] = std::cos(angle) * frequencies.amplitude;
        values[sines_ + position * pairs_ + pair] = std::sin(angle) * frequencies.amplitude;
      }
    }
    context.upload(values.data(), memory_.as<void>(), values.size() * sizeof(float));
    context.wait();
  }
  int32_t pairs() const noexcept { return static_cast<int32_t>(pairs_); }
  const float* cosines() const noexcept { return memory_.as<float>(); }
  const float* sines() const noexcept { return memory_.as<float>() + sines_; }

 private:
  size_t pairs_;
  DeviceMemory memory_;
  size_t sines_;  // where they begin
};

class CudaCache final : public KeyValueCache {
 public:
  CudaCache(Context& context, const CacheShape& shape) : shape_(shape), memory_(context, page_bytes() * shape.pages) {
    context.clear(memory_.as<void>(), memory_.bytes());
  }
  uint64_t bytes() const noexcept override { return memory_.bytes(); }
  size_t page_bytes() const noexcept { return view_of(shape_, nullptr).page_bytes(); }
  std::byte* page(PageId page) const noexcept { return memory_.as<std::byte>() + page * page_bytes(); }
  CacheView view() const noexcept { return view_of(shape_, memory_.as<std::byte>()); }

  // As much as a number can say where the product does not fit one.
  static uint64_t bytes_of(const CacheShape& shape) noexcept {
    CacheShape taken = shape;
    taken.head_width = std::min<uint32_t>(shape.head_width, kLargestHead);  // make_cache() refuses wider ones
    const uint64_t parts[] = {shape.pages, shape.layers, shape.key_value_heads, 2,
                              static_cast<uint64_t>(view_of(taken, nullptr).part_bytes())};
    return checked_product(parts).value_or(UINT64_MAX);
  }

 private:
  static CacheView view_of(const CacheShape& shape, std::byte* data) noexcept {
    static_assert(static_cast<int>(CacheElement::kInt8) == static_cast<int>(CacheType::kInt8));
    return {data,
            static_cast<CacheElement>(shape.type),
            static_cast<int32_t>(shape.layers),
            static_cast<int32_t>(shape.key_value_heads),
            static_cast<int32_t>(shape.head_width),
            cache_head_stride(static_cast<int>(shape.head_width))};
  }

  CacheShape shape_;
  DeviceMemory memory_;
};

// Inputs are laid out in memory of the host as they will be on the device, and copied from there, so that begin() does not wait for
// the device unless it is two steps behind.
class CudaStep final : public Step {
 public:
  CudaStep(Context& context, const StepLimits& limits)
      : context_(context),
        limits_(limits),
        memory_(context, words() * sizeof(uint32_t)),
        staging_{Staging(words()), Staging(words())} {}

  uint32_t tokens() const noexcept override { return tokens_; }
  uint32_t scored() const noexcept override { return scored_; }
  // Whether each token is of a sequence of its own.
  bool separate() const noexcept { return separate_; }
  // StepView::long_rows.
  bool long_rows() const noexcept { return long_rows_; }

  StepView view() const noexcept {
    uint32_t* const data = memory_.as<uint32_t>();
    return {data,       data + places_at(), data + pages_at(), data + scored_at(), static_cast<int32_t>(limits_.pages_per_sequence),
            lone_rows_, long_rows_};
  }
  uint32_t* tokens_on_device() const noexcept { return memory_.as<uint32_t>(); }

  void begin(const StepInputs& inputs) {
    const size_t sequences = inputs.pages_per_sequence == 0 ? 0 : inputs.pages.size() / inputs.pages_per_sequence;
    if (inputs.tokens.size() > limits_.tokens || inputs.scored.size() > limits_.tokens || sequences > limits_.sequences ||
        inputs.pages_per_sequence > limits_.pages_per_sequence) {
      throw Error(ErrorCode::kUsage, "step",
                  fmt::format("{} tokens and {} sequences of {} pages; it was made for {}, {} and {}", inputs.tokens.size(),
                              sequences, inputs.pages_per_sequence, limits_.tokens, limits_.sequences, limits_.pages_per_sequence),
                  "make a larger step");
    }
    sequences_seen_.assign(limits_.sequences, false);
    separate_ = std::ranges::all_of(inputs.places, [&](TokenPlace place) {
      if (place.sequence >= sequences_seen_.size() || sequences_seen_[place.sequence]) return false;
      sequences_seen_[place.sequence] = true;
      return true;
    });
    lone_rows_ = any_alone(inputs.places);
    long_rows_ = std::ranges::any_of(inputs.places, [](TokenPlace place) { return place.position >= kShortRow; });
    tokens_ = static_cast<uint32_t>(inputs.tokens.size());
    scored_ = static_cast<uint32_t>(inputs.scored.size());
    Staging& staging = staging_[turn_++ % 2];
    check(cudaEventSynchronize(staging.copied), "wait for a copy");
    uint32_t* const host = staging.memory.as<uint32_t>();
    std::ranges::copy(inputs.tokens, host);
    std::ranges::copy(inputs.scored, host + scored_at());
    static_assert(sizeof(TokenPlace) == 2 * sizeof(uint32_t));
    std::memcpy(host + places_at(), inputs.places.data(), inputs.places.size_bytes());
    for (size_t sequence = 0; sequence < sequences; ++sequence) {
      std::ranges::copy(inputs.pages.subspan(sequence * inputs.pages_per_sequence, inputs.pages_per_sequence),
                        host + pages_at() + sequence * limits_.pages_per_sequence);
    }
    // A copy costs more than the few thousand words between the parts.
    if (const size_t used = pages_at() + sequences * limits_.pages_per_sequence; used <= kWordsInOneCopy) {
      copy(host, 0, used);
    } else {
      copy(host, 0, inputs.tokens.size());
      copy(host, scored_at(), inputs.scored.size());
      copy(host, places_at(), 2 * inputs.places.size());
      copy(host, pages_at(), sequences * limits_.pages_per_sequence);
    }
    check(cudaEventRecord(staging.copied, context_.stream()), "record a copy");
  }

 private:
  struct Staging {
    explicit Staging(size_t words) : memory(words * sizeof(uint32_t)) {
      check(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming), "make an event");
    }
    ~Staging() { cudaEventDestroy(copied); }
    PinnedMemory memory;
    cudaEvent_t copied = nullptr;
  };

  // Whether some row has too few neighbours to be attended to in a tile (launch.h).
  static bool any_alone(std::span<const TokenPlace> places) {
    for (size_t begin = 0; begin < places.size(); begin += kTileQueries) {
      auto left = places.subspan(begin, std::min<size_t>(kTileQueries, places.size() - begin));
      while (!left.empty()) {
        const auto other = std::ranges::find_if(left, [&](TokenPlace place) { return place.sequence != left.front().sequence; });
        const auto together = static_cast<size_t>(other - left.begin());
        if (together < kFewestTogether) return true;
        left = left.subspan(together);
      }
    }
    return false;
  }

  static constexpr size_t kWordsInOneCopy = 16384;

  // In words: tokens, scored rows, places, pages.
  size_t scored_at() const noexcept { return limits_.tokens; }
  size_t places_at() const noexcept { return scored_at() + limits_.tokens; }
  size_t pages_at() const noexcept { return places_at() + size_t{2} * limits_.tokens; }
  size_t words() const noexcept { return pages_at() + size_t{limits_.sequences} * limits_.pages_per_sequence; }
  void copy(const uint32_t* host, size_t first, size_t count) const {
    if (count > 0) context_.upload(host + first, memory_.as<uint32_t>() + first, count * sizeof(uint32_t));
  }

  Context& context_;
  StepLimits limits_;
  DeviceMemory memory_;
  Staging staging_[2];
  size_t turn_ = 0;
  uint32_t tokens_ = 0, scored_ = 0;
  bool separate_ = false, lone_rows_ = false, long_rows_ = false;
  std::vector<bool> sequences_seen_;
};

class CudaChosenTokens final : public ChosenTokens {
 public:
  CudaChosenTokens(Context& context, uint32_t capacity)
      : context_(context), memory_(context, capacity * sizeof(uint32_t)), host_(capacity * sizeof(uint32_t)) {
    check(cudaEventCreateWithFlags(&copied_, cudaEventDisableTiming), "make an event");
  }
  ~CudaChosenTokens() override { cudaEventDestroy(copied_); }
  uint32_t* data() const noexcept { return memory_.as<uint32_t>(); }

  // To be called when `count` tokens have been chosen: the host gets them although later work is already on the stream.
  void send(size_t count) const {
    check(
        cudaMemcpyAsync(host_.as<void>(), memory_.as<void>(), count * sizeof(uint32_t), cudaMemcpyDeviceToHost, context_.stream()),
        "copy tokens");
    check(cudaEventRecord(copied_, context_.stream()), "record a copy");
  }
  void receive(std::span<uint32_t> out) const {
    check(cudaEventSynchronize(copied_), "wait for tokens");
    std::copy_n(host_.as<uint32_t>(), out.size(), out.data());
  }

 private:
  Context& context_;
  DeviceMemory memory_;
  PinnedMemory host_;
  cudaEvent_t copied_ = nullptr;
};

class CudaMoments final : public Moments {
 public:
  CudaMoments(Context& context, size_t columns, MomentKind kind)
      : columns_(columns),
        kind_(kind),
        memory_(context, (kind == MomentKind::kSquares ? columns : columns * columns) * sizeof(double)) {
    context.clear(memory_.as<void>(), memory_.bytes());
  }
  MomentKind kind() const noexcept override { return kind_; }
  size_t columns() const noexcept override { return columns_; }
  double* data() const noexcept { return memory_.as<double>(); }

 private:
  size_t columns_;
  MomentKind kind_;
  DeviceMemory memory_;
};

// Memory that grows to the largest use and stays.
class GrowingMemory {
 public:
  explicit GrowingMemory(Context& context) : context_(context) {}
  void* sized(size_t bytes) {
    if (!memory_ || memory_->bytes() < bytes) {
      memory_.reset();
      memory_.emplace(context_, bytes);
    }
    return memory_->as<void>();
  }

 private:
  Context& context_;
  std::optional<DeviceMemory> memory_;
};

}  // namespace tritllm::cuda
