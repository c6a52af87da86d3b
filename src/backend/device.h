// Owns the choice of a backend by a device's name. Does not own any backend.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "backend/backend.h"
#include "backend/cpu/backend.h"
#include "core/thread_pool.h"

namespace tritllm {

// "cpu", "cuda" (the first device), "cuda:N", or "auto": the first CUDA device that has `bytes_needed` free, else the CPU. Another
// name is refused, and so is float arithmetic on a CUDA device. The pool outlives the backend.
std::unique_ptr<Backend> make_backend(std::string_view device, Arithmetic arithmetic, ThreadPool& pool, uint64_t bytes_needed = 0);

}  // namespace tritllm
