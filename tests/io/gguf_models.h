// Owns tiny complete models for tests and as seeds for fuzzing: metadata as a table, so that one field can be changed or dropped.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/gguf_builder.h"

namespace tritllm {

inline constexpr uint64_t kTokens = 8;

// Metadata of a model of one layer by key, so that a test can change or drop a field.
using Fields = std::map<std::string, std::function<void(GgufBuilder&, const std::string&)>>;

inline auto text(std::string value) {
  return [value](GgufBuilder& b, const std::string& key) { b.add_text(key, value); };
}
inline auto u32(uint32_t value) {
  return [value](GgufBuilder& b, const std::string& key) { b.add_u32(key, value); };
}
inline auto f32(float value) {
  return [value](GgufBuilder& b, const std::string& key) { b.add_f32(key, value); };
}
inline auto texts(std::vector<std::string> values) {
  return [values](GgufBuilder& b, const std::string& key) { b.add_texts(key, values); };
}
inline auto i32s(std::vector<int32_t> values) {
  return [values](GgufBuilder& b, const std::string& key) { b.add_i32s(key, values); };
}
inline auto f32s(std::vector<float> values) {
  return [values](GgufBuilder& b, const std::string& key) { b.add_f32s(key, values); };
}

inline Fields fields() {
  return {
      {"general.architecture", text("llama")},
      {"llama.block_count", u32(1)},
      {"llama.context_length", u32(16)},
      {"llama.embedding_length", u32(8)},
      {"llama.feed_forward_length", u32(12)},
      {"llama.attention.head_count", u32(4)},
      {"llama.attention.head_count_kv", u32(2)},
      {"llama.attention.layer_norm_rms_epsilon", f32(1e-5f)},
      {"tokenizer.ggml.model", text("gpt2")},
      {"tokenizer.ggml.pre", text("gpt-2")},
      {"tokenizer.ggml.tokens", texts({"a", "b", "c", "ab", "abc", "<s>", "</s>", "[PAD7]"})},
      {"tokenizer.ggml.token_type", i32s({1, 1, 1, 1, 1, 3, 3, 5})},
      {"tokenizer.ggml.merges", texts({"a b", "ab c"})},
      {"tokenizer.ggml.bos_token_id", u32(5)},
      {"tokenizer.ggml.eos_token_id", u32(6)},
  };
}

inline Fields sentencepiece_fields() {
  Fields all = fields();
  all["tokenizer.ggml.model"] = text("llama");
  all.erase("tokenizer.ggml.merges");
  all["tokenizer.ggml.tokens"] = texts({"<unk>", "a", "b", "ab", "<0x0A>", "<s>", "</s>", "\u2581ab"});
  all["tokenizer.ggml.token_type"] = i32s({2, 1, 1, 1, 6, 3, 3, 1});
  all["tokenizer.ggml.scores"] = f32s({0, -1, -2, -3, 0, 0, 0, -4});
  return all;
}

inline GgufBuilder builder_of(const Fields& all) {
  GgufBuilder builder;
  for (const auto& [key, add] : all) add(builder, key);
  builder.add_f32_tensor("token_embd.weight", {8, kTokens})
      .add_f32_tensor("blk.0.attn_norm.weight", {8})
      .add_f32_tensor("blk.0.attn_q.weight", {8, 8})
      .add_f32_tensor("blk.0.attn_k.weight", {8, 4})
      .add_f32_tensor("blk.0.attn_v.weight", {8, 4})
      .add_f32_tensor("blk.0.attn_output.weight", {8, 8})
      .add_f32_tensor("blk.0.ffn_norm.weight", {8})
      .add_f32_tensor("blk.0.ffn_gate.weight", {8, 12})
      .add_f32_tensor("blk.0.ffn_up.weight", {8, 12})
      .add_f32_tensor("blk.0.ffn_down.weight", {12, 8})
      .add_f32_tensor("output_norm.weight", {8});
  return builder;
}

}  // namespace tritllm
