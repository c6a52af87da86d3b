// The tasks on models on disk, for python/tritllm/tasks.py.
#include <nanobind/stl/string.h>

#include "api/python/binding.h"
#include "api/task_options.h"
#include "core/error.h"
#include "core/thread_pool.h"
#include "io/model_location.h"
#include "io/packed_checkpoint.h"
#include "tasks/dequantize.h"
#include "tasks/inspect.h"
#include "tasks/verify.h"

namespace tritllm::python {
namespace {

using namespace nb::literals;

std::string quantize(const std::string& options_text, const nb::object& on_progress, const nb::object& on_warning) {
  QuantizeOptions options = api::read_quantize_options(parse_argument(options_text));
  std::vector<ConfigResult> results;
  run_task(
      [&](TaskNews& news) {
        options.should_stop = [&] { return news.should_stop(); };
        options.on_warning = [&](const std::string& warning) { news.warn(warning); };
        options.on_progress = [&](const QuantizeProgress& progress) { news.progress(api::to_json(progress)); };
        results = quantize_model(options);
      },
      on_progress, on_warning);
  return json_argument(api::to_json(results));
}

std::string plan(const std::string& options) {
  return json_argument(plan_quantization(api::read_quantize_options(parse_argument(options))));
}

void dequantize(const std::string& model, const std::string& out, const std::string& type, unsigned threads,
                const nb::object& on_warning) {
  run_task(
      [&](TaskNews& news) {
        const std::filesystem::path place = locate_model(model);
        const auto warn = [&](const std::string& warning) { news.warn(warning); };
        const bool packed = is_packed_checkpoint(place);
        if (!type.empty() && type != "f16" && type != "f32")
          throw Error(ErrorCode::kUsage, "type", "expected f16 or f32, found '" + printable(type, 40) + "'");
        if (packed && type == "f32") {
          throw Error(ErrorCode::kUsage, "type",
                      "a packed checkpoint decodes to FP16, so that its bytes are those of the FP16 folder");
        }
        ThreadPool pool(threads);
        if (packed) dequantize_packed(place, out, pool, warn);
        else write_plain_model(place, out, type == "f16" ? ElementType::kF16 : ElementType::kF32, pool, warn);
      },
      nb::none(), on_warning);
}

std::string inspect(const std::string& path) { return json_argument(inspect_model(path).whole()); }

std::string verify(const std::string& model, const std::string& source, size_t sample, unsigned threads) {
  Json problems = Json::array();
  run_task(
      [&](TaskNews&) {
        ThreadPool pool(threads);
        const std::filesystem::path place = locate_model(model);
        std::vector<ModelProblem> found = verify_model(place, pool);
        if (found.empty() && !source.empty()) found = verify_against_source(place, locate_model(source), sample, pool);
        for (const ModelProblem& problem : found)
          problems.push_back({{"file", problem.file}, {"where", problem.where}, {"message", problem.message}});
      },
      nb::none(), nb::none());
  return json_argument(problems);
}

}  // namespace

void bind_tasks(nb::module_& module) {
  module.def("quantize", quantize, "options"_a, "on_progress"_a.none(), "on_warning"_a.none());
  module.def("plan", plan, "options"_a, nb::call_guard<nb::gil_scoped_release>());
  module.def("dequantize", dequantize, "model"_a, "out"_a, "type"_a, "threads"_a, "on_warning"_a.none());
  module.def("inspect", inspect, "path"_a, nb::call_guard<nb::gil_scoped_release>());
  module.def("verify", verify, "model"_a, "source"_a, "sample"_a, "threads"_a);
}

}  // namespace tritllm::python
