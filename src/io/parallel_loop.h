// Owns the adapter by which the codec and the readers, which know no threads, use the thread pool.
#pragma once

#include "codec/quantizer.h"
#include "core/thread_pool.h"

namespace tritllm {

// The pool outlives the loop.
inline codec::ParallelLoop loop_over(ThreadPool& pool) {
  return [&pool](size_t count, const std::function<void(size_t)>& body) {
    pool.parallel_for(count, [&](size_t index, unsigned) { body(index); });
  };
}

}  // namespace tritllm
