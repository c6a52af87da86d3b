// Owns the CPU as a device: operations are split over a thread pool, and each part is done by the kernels of one instruction set.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/backend.h"
#include "core/thread_pool.h"
#include "kernels/kernel_table.h"

namespace tritllm {

// How products with ternary matrices are computed; those with dense ones are always in floats.
enum class Arithmetic : uint8_t {
  kInteger,  // activations in 8 bits, 13 at depth 1, with a scale for each 16 or 32 (docs/kernels.md): many times faster
  kFloat,    // each weight decoded to float32
};

// The pool outlives the backend and is not used by others during an operation. Operations are called from one thread at a time.
std::unique_ptr<Backend> make_cpu_backend(ThreadPool& pool, const kernels::KernelTable& kernels,
                                          Arithmetic arithmetic = Arithmetic::kInteger);

}  // namespace tritllm
