// Owns calibration's products on the host's processors: the specification of every other Algebra.
#pragma once

#include <memory>
#include <span>

#include "backend/algebra.h"
#include "codec/group_kernels.h"
#include "core/thread_pool.h"

namespace tritllm {

// Both outlive it.
std::unique_ptr<Algebra> make_host_algebra(const codec::GroupKernels& kernels, ThreadPool& pool);

// Algebra::invert_factor() on one thread.
bool invert_factor(std::span<double> matrix, size_t size);

}  // namespace tritllm
