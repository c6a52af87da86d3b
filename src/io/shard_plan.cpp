#include "io/shard_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/json.h"

namespace tritllm {
namespace {

std::vector<std::vector<PlannedTensor>> fill_files(const std::vector<std::vector<PlannedTensor>>& units, uint64_t largest_shard) {
  std::vector<std::vector<PlannedTensor>> files(1);
  uint64_t filled = 0;
  for (const std::vector<PlannedTensor>& unit : units) {
    uint64_t bytes = 0;
    for (const PlannedTensor& tensor : unit) bytes += tensor.bytes();
    if (filled > 0 && filled + bytes > largest_shard) {
      files.emplace_back();
      filled = 0;
    }
    filled += bytes;
    files.back().insert(files.back().end(), unit.begin(), unit.end());
  }
  return files;
}

std::string file_name(const ShardNaming& naming, size_t index, size_t count) {
  if (count == 1 && naming.single_without_number) return fmt::format("{}.safetensors", naming.stem);
  return fmt::format("{}-{:05}-of-{:05}.safetensors", naming.stem, index + 1, count);
}

}  // namespace

const ShardNaming& packed_naming() {
  static const ShardNaming naming{"trits", false, "trits.safetensors.index.json", {{"format", "tritllm"}, {"format_version", "1"}}};
  return naming;
}

const ShardNaming& plain_naming() {
  static const ShardNaming naming{"model", true, "model.safetensors.index.json", {{"format", "pt"}}};
  return naming;
}

uint64_t ShardPlan::weight_bytes() const noexcept {
  uint64_t total = 0;
  for (const ShardFile& file : files) total += file.bytes;
  return total;
}

uint64_t ShardPlan::total_bytes() const noexcept { return weight_bytes() + index_text.size(); }

ShardPlan plan_shards(const std::vector<std::vector<PlannedTensor>>& units, const ShardNaming& naming, uint64_t largest_shard) {
  std::vector<std::vector<PlannedTensor>> files = fill_files(units, largest_shard);
  ShardPlan plan;
  Json weight_map = Json::object();
  auto& weight_map_members = weight_map.get_ref<Json::object_t&>();
  uint64_t data_bytes = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    // Largest elements first keeps every element aligned although matrices of trits have odd sizes.
    std::stable_sort(files[i].begin(), files[i].end(), [](const PlannedTensor& a, const PlannedTensor& b) {
      return layout_of(a.type).block_bytes > layout_of(b.type).block_bytes;
    });
    SafetensorsLayout layout = plan_safetensors(files[i], naming.metadata);
    const std::string name = file_name(naming, i, files.size());
    for (size_t k = 0; k < files[i].size(); ++k) {
      const PlannedTensor& tensor = files[i][k];
      if (tensor.name.size() > kLongestTensorName) {
        throw Error(ErrorCode::kBadInput, fmt::format("tensor '{}'", printable(tensor.name)),
                    fmt::format("the output would hold a name of more than {} bytes", kLongestTensorName));
      }
      if (!plan.locations.emplace(tensor.name, TensorLocation{i, layout.offsets[k], tensor.bytes()}).second) {
        throw Error(ErrorCode::kBadInput, fmt::format("tensor '{}'", printable(tensor.name)),
                    "the output would hold two tensors of this name");
      }
      weight_map_members.emplace_back(tensor.name, name);
      data_bytes += tensor.bytes();
    }
    plan.files.push_back({name, std::move(layout.header), layout.file_bytes});
  }
  if (files.size() > 1 || !naming.single_without_number) {
    plan.index_name = naming.index_name;
    plan.index_text = json_text({{"metadata", {{"total_size", data_bytes}}}, {"weight_map", std::move(weight_map)}});
  }
  return plan;
}

}  // namespace tritllm
