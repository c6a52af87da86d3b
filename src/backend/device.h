// Owns the choice of a backend by a device's name. Does not own any backend.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "backend/backend.h"
#include "backend/cpu/backend.h"
#include "core/thread_pool.h"

namespace tritllm {

// The index of the CUDA device that is meant by "cuda" (the first one), "cuda:N", or "auto": the first that has `bytes_needed`
// free. Nothing for "cpu", and for "auto" where there is none. Another name is refused.
std::optional<int> cuda_device(std::string_view device, uint64_t bytes_needed = 0);

// On the device of that name, or the CPU. Float arithmetic is refused on a CUDA device. The pool outlives the backend.
std::unique_ptr<Backend> make_backend(std::string_view device, Arithmetic arithmetic, ThreadPool& pool, uint64_t bytes_needed = 0);

}  // namespace tritllm
