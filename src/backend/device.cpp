#include "backend/device.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "backend/cuda/devices.h"
#include "core/error.h"
#include "kernels/kernel_table.h"

namespace tritllm {

namespace {

// 1 for "cuda:1", 0 for "cuda".
std::optional<int> cuda_index(std::string_view device) {
  constexpr std::string_view kName = "cuda";
  if (device == kName) return 0;
  if (!device.starts_with("cuda:")) return std::nullopt;
  int index = 0;
  const auto [end, error] = std::from_chars(device.data() + kName.size() + 1, device.data() + device.size(), index);
  return error == std::errc() && end == device.data() + device.size() && index >= 0 ? std::optional(index) : std::nullopt;
}

}  // namespace

std::unique_ptr<Backend> make_backend(std::string_view device, Arithmetic arithmetic, ThreadPool& pool) {
  if (device == "cpu") return make_cpu_backend(pool, kernels::active_table(), arithmetic);
  if (const auto index = cuda_index(device)) return make_cuda_backend(*index, pool);
  throw Error(ErrorCode::kUsage, "options.device", fmt::format("this program has no device '{}'", printable(device)),
              "use cpu, cuda or cuda:NUMBER");
}

}  // namespace tritllm
