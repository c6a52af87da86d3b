#include "backend/cuda/context.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace tritllm::cuda {
namespace {

constexpr uint64_t kMostKeptMemory = uint64_t{4} << 30;  // of what was freed, for ScratchMemory

// Errors after which the process cannot use the device any more.
bool is_sticky(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError: return true;
    default: return false;
  }
}

void check_allocation(cudaError_t status, size_t bytes) {
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: later calls succeed
    size_t free = 0, all = 0;
    cudaMemGetInfo(&free, &all);
    throw Error(ErrorCode::kUnsupported, "CUDA device", fmt::format("no room for {} bytes: {} of {} are free", bytes, free, all),
                "use a smaller model, a lower depth, fewer sequences or a shorter context");
  }
  check(status, "allocate memory");
}

}  // namespace

void check(Status status, const char* action) {
  const auto code = static_cast<cudaError_t>(status);
  if (code == cudaSuccess) return;
  throw Error(ErrorCode::kUnsupported, "CUDA device",
              fmt::format("cannot {}: {} ({})", action, cudaGetErrorString(code), cudaGetErrorName(code)),
              is_sticky(code) ? "the device cannot be used any more by this process; start it again" : "");
}

Context::Context(int device) : device_(device) {
  check(cudaSetDevice(device), "select the device");
  check(device_traits(device, traits_), "read the device's properties");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream");
}

Context::~Context() {
  cudaSetDevice(device_);
  cudaStreamDestroy(stream_);
}

std::string Context::name() const {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device_), "read the device's properties");
  return properties.name;
}

void Context::use() const { check(cudaSetDevice(device_), "select the device"); }
void Context::wait() const { check(cudaStreamSynchronize(stream_), "finish the work on the device"); }

void Context::upload(const void* from, void* to, size_t bytes) const {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copy to the device");
}
void Context::download(const void* from, void* to, size_t bytes) const {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "copy from the device");
  wait();
}
void Context::clear(void* at, size_t bytes) const { check(cudaMemsetAsync(at, 0, bytes, stream_), "clear memory"); }

DeviceMemory::DeviceMemory(Context& context, size_t bytes) : context_(&context), bytes_(bytes) {
  context.use();
  check_allocation(cudaMalloc(&data_, std::max<size_t>(bytes, 1)), bytes);
}

DeviceMemory::~DeviceMemory() {
  if (data_ == nullptr) return;
  ++context_->generation_;
  cudaFree(data_);  // waits for the work that uses it
}

ScratchMemory::ScratchMemory(Context& context, size_t bytes) : context_(context) {
  context.use();
  context.keep_freed_memory();
  check_allocation(cudaMallocAsync(&data_, std::max<size_t>(bytes, 1), context.stream()), bytes);
}
ScratchMemory::~ScratchMemory() {
  if (data_ != nullptr) cudaFreeAsync(data_, context_.stream());
}

void Context::keep_freed_memory() {
  if (std::exchange(keeps_freed_memory_, true)) return;
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device_), "find the device's memory pool");
  uint64_t most = kMostKeptMemory;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &most), "set up the device's memory pool");
}

PinnedMemory::PinnedMemory(size_t bytes) : bytes_(bytes) {
  check(cudaHostAlloc(&data_, std::max<size_t>(bytes, 1), cudaHostAllocDefault), "allocate memory of the host");
}
PinnedMemory::~PinnedMemory() { cudaFreeHost(data_); }

}  // namespace tritllm::cuda
