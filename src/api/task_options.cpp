#include "api/task_options.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "core/json.h"
#include "io/source_identity.h"

namespace tritllm::api {
namespace {

std::vector<std::string> texts(const JsonView& view) {
  if (view.json().is_string()) return {view.text()};
  if (!view.json().is_array()) view.refuse("a text or a list of texts");
  std::vector<std::string> list;
  for (const JsonView& item : view.items()) list.push_back(item.text());
  return list;
}

void refuse_unknown(const JsonView& view) {
  static constexpr std::string_view kFields[] = {"model",
                                                 "out",
                                                 "configs",
                                                 "emit",
                                                 "depth",
                                                 "embed_depth",
                                                 "head_depth",
                                                 "name",
                                                 "base_model",
                                                 "license",
                                                 "max_memory",
                                                 "threads",
                                                 "device",
                                                 "fresh",
                                                 "calibration",
                                                 "calibration_sequences",
                                                 "calibration_tokens",
                                                 "seed",
                                                 "bits",
                                                 "size"};
  for (const auto& [name, value] : view.members()) {
    if (std::ranges::find(kFields, name) == std::end(kFields)) throw Error(ErrorCode::kUsage, name, "there is no such option");
  }
}

void read_emit(const JsonView& view, OutputRequest& output) {
  output.emit_packed = output.emit_model = false;
  for (const std::string& name : texts(view)) {
    if (name == "packed") output.emit_packed = true;
    else if (name == "model") output.emit_model = true;
    else view.refuse("\"packed\", \"model\" or both");
  }
}

void read_policy(const JsonView& view, TensorPolicy& policy) {
  if (const auto rules = view.optional_child("depth")) {
    for (const std::string& rule : texts(*rules)) policy.rules.push_back(parse_depth_rule(rule));
  }
  if (const auto depth = view.optional_integer("embed_depth", 1, 4)) policy.embedding_depth = static_cast<int>(*depth);
  if (const auto depth = view.optional_integer("head_depth", 1, 4)) policy.head_depth = static_cast<int>(*depth);
}

void read_calibration(const JsonView& view, CalibrationText& text) {
  if (const auto files = view.optional_child("calibration")) {
    for (const std::string& file : texts(*files)) text.files.emplace_back(file);
  }
  const auto number = [&](const char* name, uint64_t least, uint64_t most, uint32_t usual) {
    return static_cast<uint32_t>(view.optional_integer(name, least, most).value_or(usual));
  };
  text.sequences = number("calibration_sequences", 1, 65536, text.sequences);
  text.tokens = number("calibration_tokens", 16, 65536, text.tokens);
  text.seed = view.optional_integer("seed").value_or(text.seed);
}

void read_card(const JsonView& view, CardWishes& card) {
  if (const auto name = view.optional_text("name")) card.name = *name;
  if (const auto license = view.optional_text("license")) card.license = *license;
  if (const auto base = view.optional_text("base_model")) {
    card.base_model = hub_id(*base);
    if (!card.base_model) view.child("base_model").refuse("OWNER/NAME");
  }
}

}  // namespace

QuantizeOptions read_quantize_options(const Json& json) {
  const JsonView view(json, "options");
  refuse_unknown(view);
  QuantizeOptions options;
  options.model = view.text("model");
  options.output.folder = view.text("out");
  if (const auto configs = view.optional_child("configs")) {
    for (const std::string& name : texts(*configs)) options.configs.push_back(codec::parse_config(name));
  } else {
    options.configs = {codec::Config{}};
  }
  if (const auto emit = view.optional_child("emit")) read_emit(*emit, options.output);
  options.output.fresh = view.boolean_or("fresh", false);
  read_policy(view, options.policy);
  read_card(view, options.card);
  read_calibration(view, options.calibration);
  options.bits = view.optional_number("bits", 1.9, 6.7);
  options.size = view.optional_integer("size");
  options.device = view.optional_text("device").value_or("auto");
  if (const auto threads = view.optional_integer("threads", 0, 4096)) options.threads = static_cast<unsigned>(*threads);
  if (const auto bytes = view.optional_integer("max_memory")) options.max_memory = *bytes;
  return options;
}

Json to_json(const std::vector<ConfigResult>& results) {
  Json json = Json::array();
  for (const ConfigResult& result : results)
    json.push_back({{"config", result.config}, {"was_complete", result.was_complete}, {"report", result.report}});
  return json;
}

Json to_json(const QuantizeProgress& progress) {
  Json left = nullptr;
  if (progress.seconds_left) left = *progress.seconds_left;
  return {{"tensor", progress.tensor},
          {"tensors_done", progress.tensors_done},
          {"tensors_total", progress.tensors_total},
          {"weights_done", progress.weights_done},
          {"weights_total", progress.weights_total},
          {"seconds", progress.seconds},
          {"seconds_left", std::move(left)}};
}

}  // namespace tritllm::api
