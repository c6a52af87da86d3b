// Owns the names of what calibration computes with. Does not own any of it.
#pragma once

#include "backend/algebra.h"
#include "backend/backend.h"
#include "core/thread_pool.h"
#include "kernels/kernel_table.h"

namespace tritllm {

// Everything outlives what is made with it. Backend and algebra may be those of a CUDA device.
struct CalibrationDevice {
  Backend& backend;                     // forward passes
  Algebra& algebra;                     // the large products beside them
  const kernels::KernelTable& kernels;  // what is left for the host
  ThreadPool& pool;
};

}  // namespace tritllm
