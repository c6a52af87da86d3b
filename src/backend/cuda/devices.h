// Owns the way to CUDA devices for the rest of the program: which there are, a backend and calibration's products on one of them. A
// build without CUDA has the same functions (no_cuda.cpp), which find none and say why.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/algebra.h"
#include "backend/backend.h"
#include "core/thread_pool.h"

namespace tritllm {

struct CudaDevice {
  int index;
  std::string name;
  int compute_capability;  // 90 for 9.0
  uint64_t memory, free_memory;
};

struct CudaDevices {
  std::vector<CudaDevice> devices;
  std::string problem;  // why there are none
};

// Opens the driver when it is first called. Never throws for a machine without one.
CudaDevices find_cuda_devices();

// Throws an Error of kUnsupported at "options.device" where there is no such device.
void require_cuda_device(int index);

// Both throw what require_cuda_device() throws. `pool` packs weights, and outlives the backend.
std::unique_ptr<Backend> make_cuda_backend(int index, ThreadPool& pool);
// Calibration's products. They need cuBLAS: throws an Error of kUnsupported where it is not installed.
std::unique_ptr<Algebra> make_cuda_algebra(int index);
// Why there is none; empty where there is.
std::string cuda_algebra_problem();

}  // namespace tritllm
