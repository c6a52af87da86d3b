#include "backend/device.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "backend/cuda/devices.h"
#include "core/error.h"
#include "kernels/kernel_table.h"

namespace tritllm {

namespace {

// 0 for "cuda", N for "cuda:N".
std::optional<int> cuda_index(std::string_view device) {
  if (device == "cuda") return 0;
  if (!device.starts_with("cuda:")) return std::nullopt;
  device.remove_prefix(5);
  int index = 0;
  const auto [end, error] = std::from_chars(device.data(), device.data() + device.size(), index);
  if (error != std::errc() || end != device.data() + device.size() || index < 0) return std::nullopt;
  return index;
}

std::optional<int> roomy_cuda_device(uint64_t bytes_needed) {
  for (const CudaDevice& device : find_cuda_devices().devices) {
    if (device.free_memory >= bytes_needed) return device.index;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int> cuda_device(std::string_view device, uint64_t bytes_needed) {
  if (device == "cpu") return std::nullopt;
  if (device == "auto") return roomy_cuda_device(bytes_needed);
  if (const auto index = cuda_index(device)) return index;
  throw Error(ErrorCode::kUsage, "options.device", fmt::format("there is no device '{}'", printable(device)),
              "use cpu, cuda, cuda:N or auto");
}

// Float arithmetic is the CPU's: asking for it means the CPU.
std::unique_ptr<Backend> make_backend(std::string_view device, Arithmetic arithmetic, ThreadPool& pool, uint64_t bytes_needed) {
  const bool is_float = arithmetic == Arithmetic::kFloat;
  const auto cuda = is_float && device == "auto" ? std::nullopt : cuda_device(device, bytes_needed);
  if (cuda && is_float) {
    throw Error(ErrorCode::kUsage, "options.activations", "f32 is an arithmetic of the CPU",
                "use device cpu, or other activations");
  }
  if (cuda) return make_cuda_backend(*cuda, pool);
  return make_cpu_backend(pool, kernels::active_table(), arithmetic);
}

}  // namespace tritllm
