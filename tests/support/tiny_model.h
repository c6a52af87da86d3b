// Owns models in miniature for tests of whole runs: a source in memory that has names and shapes only, and a folder with a
// Llama-like model of random weights and sizes that are no multiple of anything.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "io/model_source.h"
#include "support/matrices.h"
#include "support/model_folder.h"

namespace tritllm {

// Tensors of zeros; what decides by names, shapes and types needs no more.
class FakeModel {
 public:
  explicit FakeModel(Json config = Json::object()) { source_.config = std::move(config); }

  FakeModel& add(std::string name, std::vector<uint64_t> shape, ElementType type = ElementType::kBF16, std::byte value = {}) {
    SourceTensor tensor{.name = std::move(name), .shape = std::move(shape), .type = type, .bytes = {}, .place = ""};
    tensor.place = "FILE: tensor '" + tensor.name + "'";
    const ElementLayout layout = layout_of(type);
    storage_.emplace_back(tensor.elements() / layout.block_elements * layout.block_bytes, value);
    tensor.bytes = storage_.back();
    source_.tensors.push_back(std::move(tensor));
    return *this;
  }
  const ModelSource& source() const { return source_; }

 private:
  ModelSource source_;
  std::deque<std::vector<std::byte>> storage_;
};

struct TinyModel {
  bool tied = false;
  std::string license = "apache-2.0";
  uint64_t seed = 1;
};

// 2 layers, 37 × 83 matrices and the like. Writes config.json, weights, a tokenizer, a licence and a card.
inline void write_tiny_model(const std::filesystem::path& folder, const TinyModel& options = {}) {
  uint64_t seed = options.seed;
  std::vector<TestTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<uint64_t> shape) {
    const uint64_t rows = shape.front(), columns = shape.size() > 1 ? shape.back() : 1;
    std::vector<float> weights = random_matrix(Distribution::kStudent5, rows, columns, seed++);
    for (float& weight : weights) weight *= 0.02f;
    tensors.push_back(bf16_tensor(name, std::move(shape), weights));
  };
  add("model.embed_tokens.weight", {101, 37});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add(layer + "input_layernorm.weight", {37});
    add(layer + "self_attn.q_proj.weight", {36, 37});
    add(layer + "self_attn.k_proj.weight", {12, 37});
    add(layer + "self_attn.o_proj.weight", {37, 36});
    add(layer + "mlp.up_proj.weight", {83, 37});
    add(layer + "mlp.down_proj.weight", {37, 83});
  }
  if (options.tied) tensors.push_back({{"lm_head.weight", ElementType::kBF16, {101, 37}}, tensors.front().bytes});
  else add("lm_head.weight", {101, 37});
  tensors.push_back(filled_tensor("model.position_ids", ElementType::kI64, {3}, 1));
  write_plainly(folder / "model.safetensors", safetensors_text(tensors));
  const Json config{
      {"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"},         {"hidden_size", 37}, {"torch_dtype", "bfloat16"},
      {"tie_word_embeddings", options.tied},   {"_name_or_path", "org/Tiny-37"}};
  write_plainly(folder / "config.json", config.dump());
  write_plainly(folder / "tokenizer.json", "{}");
  write_plainly(folder / "LICENSE", "the licence");
  write_plainly(folder / "README.md", "---\nlicense: " + options.license + "\n---\n# Tiny\n");
}

// Every file below a folder, by relative path.
inline std::map<std::string, std::string> files_below(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file())
      files.emplace(std::filesystem::relative(entry.path(), folder).string(), read_plainly(entry.path()));
  }
  return files;
}

// Names the files that differ, without showing their bytes.
inline void expect_same_files(const std::filesystem::path& a, const std::filesystem::path& b) {
  const auto left = files_below(a), right = files_below(b);
  for (const auto& [name, contents] : left) {
    EXPECT_TRUE(right.contains(name) && right.at(name) == contents) << name << " differs between " << a << " and " << b;
  }
  EXPECT_EQ(left.size(), right.size()) << a << " and " << b << " hold other files";
}

}  // namespace tritllm
