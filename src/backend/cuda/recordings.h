// Owns the recording of steps as graphs and their replay. Does not own what a step consists of.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <unordered_map>

#include "backend/backend.h"
#include "backend/cuda/context.h"

namespace tritllm::cuda {

struct RecordingKey {
  StepKey step;
  bool separate;   // CudaStep::separate(): other kernels
  bool long_rows;  // StepView::long_rows: another division of the work
  bool operator==(const RecordingKey&) const = default;
};

struct KeyHash {
  size_t operator()(const RecordingKey& recording) const noexcept {
    const StepKey& key = recording.step;
    size_t hash = 0;
    for (const uint64_t part : {reinterpret_cast<uint64_t>(key.owner), reinterpret_cast<uint64_t>(key.step),
                                reinterpret_cast<uint64_t>(key.cache), uint64_t{key.tokens} << 32 | key.first,
                                uint64_t{key.scored} << 2 | uint64_t{recording.separate} << 1 | uint64_t{recording.long_rows}}) {
      hash = (hash ^ part) * 0x9e3779b97f4a7c15u;
    }
    return hash;
  }
};

// Operations that were recorded, by key. All are dropped when memory is given back, since they hold addresses.
class Recordings {
 public:
  explicit Recordings(Context& context) : context_(context) {}
  ~Recordings() { clear(); }

  void run(const RecordingKey& key, const std::function<void()>& operations) {
    // The launches of long prompts hide behind their work, and their lengths hardly ever repeat.
    constexpr uint32_t kLongestRecorded = 64;
    static_assert(kLongestRecorded < kFewestTiledRows);  // StepView::lone_rows decides on a launch, and is no part of the key
    constexpr size_t kMostRecordings = 256;
    if (key.step.tokens > kLongestRecorded) return operations();
    if (generation_ != context_.generation() || graphs_.size() > kMostRecordings) {
      clear();
      generation_ = context_.generation();
    }
    const auto found = graphs_.find(key);
    if (found == graphs_.end()) {
      // The first time shows how much room the operations need: nothing can be allocated while they are recorded.
      operations();
      if (generation_ == context_.generation()) graphs_.emplace(key, nullptr);
      return;
    }
    if (found->second == nullptr) found->second = record(operations);
    check(cudaGraphLaunch(found->second, context_.stream()), "replay a step");
  }

 private:
  cudaGraphExec_t record(const std::function<void()>& operations) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    check(cudaStreamBeginCapture(context_.stream(), cudaStreamCaptureModeThreadLocal), "record a step");
    try {
      operations();
    } catch (...) {
      cudaStreamEndCapture(context_.stream(), &graph);
      cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(context_.stream(), &graph), "record a step");
    const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "record a step");
    return executable;
  }
  void clear() noexcept {
    for (const auto& [key, executable] : graphs_) {
      if (executable != nullptr) cudaGraphExecDestroy(executable);
    }
    graphs_.clear();
  }

  Context& context_;
  std::unordered_map<RecordingKey, cudaGraphExec_t, KeyHash> graphs_;
  uint64_t generation_ = 0;
};

}  // namespace tritllm::cuda
