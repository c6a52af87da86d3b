// The functions of devices.h in a build without CUDA.
#include <fmt/format.h>

#include "backend/cuda/devices.h"
#include "core/error.h"

namespace tritllm {

CudaDevices find_cuda_devices() { return {{}, "this program was built without CUDA (make cuda builds it in)"}; }

void require_cuda_device(int index) {
  throw Error(ErrorCode::kUnsupported, "options.device", fmt::format("CUDA device {}: {}", index, find_cuda_devices().problem),
              "use cpu");
}

std::unique_ptr<Backend> make_cuda_backend(int index, ThreadPool&) {
  require_cuda_device(index);
  return nullptr;
}

std::unique_ptr<Algebra> make_cuda_algebra(int index) {
  require_cuda_device(index);
  return nullptr;
}

std::string cuda_algebra_problem() { return find_cuda_devices().problem; }

}  // namespace tritllm
