#include "backend/device.h"

#include <fmt/format.h>

#include "core/error.h"
#include "kernels/kernel_table.h"

namespace tritllm {

std::unique_ptr<Backend> make_backend(std::string_view device, Arithmetic arithmetic, ThreadPool& pool) {
  if (device == "cpu") return make_cpu_backend(pool, kernels::active_table(), arithmetic);
  throw Error(ErrorCode::kUsage, "options.device", fmt::format("this program has no device '{}'", printable(device)), "use cpu");
}

}  // namespace tritllm
