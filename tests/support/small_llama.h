// Owns a Llama of random weights that is small enough to run thousands of tokens in a test, as files in memory or in a folder. A
// test may change config and weights before it makes the files. Does not own a tokenizer.
#pragma once

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "model/model_files.h"
#include "support/model_folder.h"

namespace tritllm {

struct SmallTensor {
  std::vector<uint64_t> shape;
  std::vector<float> values;
};

class SmallLlama {
 public:
  // Odd sizes on purpose: only the vocabulary is the caller's.
  explicit SmallLlama(uint32_t vocabulary, uint64_t seed = 1)
      : config{{"architectures", {"LlamaForCausalLM"}},
               {"hidden_act", "silu"},
               {"vocab_size", vocabulary},
               {"hidden_size", 40},
               {"intermediate_size", 52},
               {"num_hidden_layers", 2},
               {"num_attention_heads", 6},
               {"num_key_value_heads", 2},
               {"head_dim", 14},
               {"max_position_embeddings", 256},
               {"rms_norm_eps", 1e-5},
               {"rope_theta", 500.0},
               {"tie_word_embeddings", false}},
        random_(seed) {
    add("model.embed_tokens.weight", {vocabulary, 40}, 1.0f);
    add("lm_head.weight", {vocabulary, 40}, 0.5f);
    add_gain("model.norm.weight");
    for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
      add_gain(layer + "input_layernorm.weight");
      add_gain(layer + "post_attention_layernorm.weight");
      // Scores far from even, so that a token's past matters.
      add(layer + "self_attn.q_proj.weight", {84, 40}, 0.3f);
      add(layer + "self_attn.k_proj.weight", {28, 40}, 0.3f);
      add(layer + "self_attn.v_proj.weight", {28, 40}, 0.25f);
      add(layer + "self_attn.o_proj.weight", {40, 84}, 0.2f);
      add(layer + "mlp.gate_proj.weight", {52, 40}, 0.2f);
      add(layer + "mlp.up_proj.weight", {52, 40}, 0.2f);
      add(layer + "mlp.down_proj.weight", {40, 52}, 0.2f);
    }
  }

  ModelFiles files() const {
    const auto tensors_of_files = std::make_shared<const std::map<std::string, SmallTensor>>(tensors);
    ModelFiles files;
    files.path = "small";
    files.config = config;
    files.config_place = "small/config.json";
    for (const auto& [name, tensor] : *tensors_of_files) {
      SourceTensor source{};
      source.name = name;
      source.shape = tensor.shape;
      source.type = ElementType::kF32;
      source.bytes = std::as_bytes(std::span(tensor.values));
      source.place = "small: tensor '" + name + "'";
      files.weights.emplace(name, source);
    }
    files.owner = tensors_of_files;
    return files;
  }

  void write(const std::filesystem::path& folder) const {
    std::vector<TestTensor> written;
    for (const auto& [name, tensor] : tensors) written.push_back(f32_tensor(name, tensor.shape, tensor.values));
    write_plainly(folder / "model.safetensors", safetensors_text(written));
    write_plainly(folder / "config.json", config.dump());
  }

  void add(const std::string& name, std::vector<uint64_t> shape, float spread, float center = 0.0f) {
    size_t count = 1;
    for (const uint64_t extent : shape) count *= extent;
    std::normal_distribution<float> normal(center, spread);
    SmallTensor tensor{std::move(shape), std::vector<float>(count)};
    for (float& value : tensor.values) value = normal(random_);
    tensors.insert_or_assign(name, std::move(tensor));
  }

  Json config;
  std::map<std::string, SmallTensor> tensors;

 private:
  void add_gain(const std::string& name) { add(name, {40}, 0.2f, 1.0f); }

  std::mt19937_64 random_;
};

}  // namespace tritllm
