// Owns `tritllm devices`.
#include <fmt/format.h>

#include <memory>

#include "app/command.h"
#include "backend/cuda/devices.h"
#include "backend/device.h"
#include "core/thread_pool.h"

namespace tritllm::app {
namespace {

int run(const CommonOptions& options) {
  ThreadPool pool(options.threads);
  const std::string cpu = make_backend("cpu", Arithmetic::kInteger, pool)->description();
  const CudaDevices cuda = find_cuda_devices();
  if (options.json) {
    Json devices = Json::array({{{"device", "cpu"}, {"name", cpu}}});
    for (const CudaDevice& device : cuda.devices) {
      devices.push_back({{"device", fmt::format("cuda:{}", device.index)},
                         {"name", device.name},
                         {"compute_capability", device.compute_capability / 10.0},
                         {"memory_bytes", device.memory},
                         {"free_memory_bytes", device.free_memory}});
    }
    print_json({{"devices", devices}, {"cuda_problem", cuda.problem.empty() ? Json() : Json(cuda.problem)}});
    return 0;
  }
  print(fmt::format("cpu     {}\n", cpu));
  for (const CudaDevice& device : cuda.devices) {
    print(fmt::format("cuda:{}  {}, compute capability {}.{}, {} of {} free\n", device.index, printable(device.name),
                      device.compute_capability / 10, device.compute_capability % 10, readable_bytes(device.free_memory),
                      readable_bytes(device.memory)));
  }
  if (cuda.devices.empty() && !options.quiet) print_message("no CUDA device: " + printable(cuda.problem));
  return 0;
}

}  // namespace

RunCommand register_devices(CLI::App& app) {
  auto* const command = app.add_subcommand("devices", "List the devices that models can run on");
  const auto options = std::make_shared<CommonOptions>();
  add_common_options(*command, *options);
  return [options] { return run(*options); };
}

}  // namespace tritllm::app
