// Owns the CPU as a device: operations split over a thread pool, each share done by the kernels of one instruction set.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "core/thread_pool.h"
#include "kernels/kernel_table.h"

namespace tritllm {

// The pool outlives the backend and is not used by others during an operation. Operations are called from one thread at a time.
std::unique_ptr<Backend> make_cpu_backend(ThreadPool& pool, const kernels::KernelTable& kernels);

}  // namespace tritllm
