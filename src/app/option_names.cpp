#include "app/option_names.h"

#include <array>
#include <string_view>

namespace tritllm::app {
namespace {

struct FieldFlag {
  std::string_view field, flag;
};

constexpr auto kOptionFlags = std::to_array<FieldFlag>({
    {"options.activations", "--activations"},
    {"options.batch", "--batch"},
    {"options.bits", "--bits"},
    {"options.calibration.files", "--calibration"},
    {"options.calibration.seed", "--seed"},
    {"options.calibration.sequences", "--calibration-sequences"},
    {"options.calibration.tokens", "--calibration-tokens"},
    {"options.configs", "--configs"},
    {"options.context", "--context"},
    {"options.device", "--device"},
    {"options.earlier", "--with"},
    {"options.host", "--host"},
    {"options.kv_cache", "--kv-cache"},
    {"options.max_memory", "--max-memory"},
    {"options.models", "--model"},
    {"options.output.emit_model", "--emit"},
    {"options.output.folder", "--out"},
    {"options.output.fresh", "--fresh"},
    {"options.output.part", "--shard"},
    {"options.policy.embedding_depth", "--embed-depth"},
    {"options.policy.head_depth", "--head-depth"},
    {"options.policy.rules", "--depth"},
    {"options.port", "--port"},
    {"options.reference", "--reference"},
    {"options.size", "--size"},
    {"options.source", "--source"},
    {"options.synthetic", "--synthetic"},
    {"options.tests", "--tests"},
    {"options.text", "--text"},
    {"options.threads", "--threads"},
    {"options.type", "--type"},
});

}  // namespace

std::string with_flags(std::string text) {
  for (const auto& [field, flag] : kOptionFlags) {
    for (size_t at = text.find(field); at != text.npos; at = text.find(field, at + flag.size())) {
      text.replace(at, field.size(), flag);
    }
  }
  return text;
}

}  // namespace tritllm::app
