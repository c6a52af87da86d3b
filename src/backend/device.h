// Owns the choice of a backend by a device's name. Does not own any backend.
#pragma once

#include <memory>
#include <string_view>

#include "backend/backend.h"
#include "backend/cpu/backend.h"
#include "core/thread_pool.h"

namespace tritllm {

// "cpu", "cuda" or "cuda:NUMBER"; another name is refused. The pool outlives the backend.
std::unique_ptr<Backend> make_backend(std::string_view device, Arithmetic arithmetic, ThreadPool& pool);

}  // namespace tritllm
