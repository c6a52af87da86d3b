// cuBLAS, opened at run time, so that the benchmark needs nothing but the CUDA runtime to build.
#pragma once

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <initializer_list>

namespace tritllm::cuda {

class Cublas {
 public:
  // The library that TRITLLM_CUBLAS names, else that of the linker's path. available() is false where there is none.
  Cublas() {
    const char* named = std::getenv("TRITLLM_CUBLAS");
    for (const char* name : {named != nullptr ? named : "libcublas.so.13", "libcublas.so.13", "libcublas.so.12"}) {
      if (library_ == nullptr) library_ = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    }
    if (library_ == nullptr) return;
    const auto create = reinterpret_cast<int (*)(void**)>(dlsym(library_, "cublasCreate_v2"));
    multiply_ = reinterpret_cast<Multiply>(dlsym(library_, "cublasGemmEx"));
    set_stream_ = reinterpret_cast<int (*)(void*, cudaStream_t)>(dlsym(library_, "cublasSetStream_v2"));
    const auto set_workspace = reinterpret_cast<int (*)(void*, void*, size_t)>(dlsym(library_, "cublasSetWorkspace_v2"));
    if (create == nullptr || multiply_ == nullptr || set_stream_ == nullptr || set_workspace == nullptr || create(&handle_) != 0)
      return;
    constexpr size_t kWorkspace = size_t{64} << 20;
    void* workspace = nullptr;
    if (cudaMalloc(&workspace, kWorkspace) == cudaSuccess) available_ = set_workspace(handle_, workspace, kWorkspace) == 0;
  }

  bool available() const noexcept { return available_; }

  // y [tokens][rows] = x [tokens][columns] · weights [rows][columns]ᵀ, halves with fp32 sums. Returns cuBLAS's status.
  int multiply(cudaStream_t stream, const void* weights, const void* x, void* y, int rows, int columns, int tokens) const {
    constexpr int kTranspose = 1, kPlain = 0, kHalf = 2, kFloatSums = 68, kDefault = -1;
    const float one = 1.0f, zero = 0.0f;
    set_stream_(handle_, stream);
    return multiply_(handle_, kTranspose, kPlain, rows, tokens, columns, &one, weights, kHalf, columns, x, kHalf, columns, &zero, y,
                     kHalf, rows, kFloatSums, kDefault);
  }

 private:
  using Multiply = int (*)(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int, const void*,
                           void*, int, int, int, int);
  void* library_ = nullptr;
  void* handle_ = nullptr;
  Multiply multiply_ = nullptr;
  int (*set_stream_)(void*, cudaStream_t) = nullptr;
  bool available_ = false;
};

}  // namespace tritllm::cuda
