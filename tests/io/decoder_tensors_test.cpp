// The table of a decoder's tensors: names as transformers and llama.cpp write them, which parts a model has, and the way back.
#include "io/decoder_tensors.h"

#include <gtest/gtest.h>

#include <set>

namespace tritllm {
namespace {

DecoderShape shape() {
  return {
      .vocabulary = 131, .hidden = 40, .feed_forward = 72, .layers = 3, .query_width = 60, .key_value_width = 20, .head_width = 10};
}

std::set<std::string> names(const DecoderShape& of) {
  std::set<std::string> found;
  for_each_tensor(of, [&](const DecoderTensor& tensor) { EXPECT_TRUE(found.insert(tensor.name).second) << tensor.name; });
  return found;
}

TEST(DecoderTensors, NamesAndShapes) {
  const DecoderTensor down = decoder_tensor(shape(), DecoderPart::kDown, 2);
  EXPECT_EQ(down.name, "model.layers.2.mlp.down_proj.weight");
  EXPECT_EQ(down.gguf_name, "blk.2.ffn_down.weight");
  EXPECT_EQ(down.shape, (std::vector<uint64_t>{40, 72}));
  EXPECT_EQ(down.split, DecoderSplit::kColumns);
  const DecoderTensor key_bias = decoder_tensor(shape(), DecoderPart::kKeyBias, 0);
  EXPECT_EQ(key_bias.name, "model.layers.0.self_attn.k_proj.bias");
  EXPECT_EQ(key_bias.shape, (std::vector<uint64_t>{20}));
  EXPECT_TRUE(key_bias.rotated);
  const DecoderTensor head = decoder_tensor(shape(), DecoderPart::kHead);
  EXPECT_EQ(head.name, "lm_head.weight");
  EXPECT_EQ(head.gguf_name, "output.weight");
  EXPECT_FALSE(head.layer.has_value());
  EXPECT_EQ(decoder_tensor(shape(), DecoderPart::kQueryNorm, 1).shape, (std::vector<uint64_t>{10}));
}

// The numbers are those of transformers' models: a Llama has 9 tensors a layer.
TEST(DecoderTensors, PartsThatAModelHas) {
  EXPECT_EQ(names(shape()).size(), 3u + 3 * 9);
  DecoderShape other = shape();
  other.own_head = false;
  EXPECT_EQ(names(other).size(), 2u + 3 * 9);
  other.query_key_value_biases = other.output_bias = other.feed_forward_biases = true;
  EXPECT_EQ(names(other).size(), 2u + 3 * (9 + 4 + 3));
  other = shape();
  other.query_key_norm = other.norms_after_blocks = true;  // Gemma 3
  const std::set<std::string> gemma = names(other);
  EXPECT_EQ(gemma.size(), 3u + 3 * (9 + 2 + 2));
  EXPECT_TRUE(gemma.contains("model.layers.1.pre_feedforward_layernorm.weight"));
  EXPECT_TRUE(gemma.contains("model.layers.1.post_attention_layernorm.weight"));
  EXPECT_TRUE(gemma.contains("model.layers.1.post_feedforward_layernorm.weight"));
}

TEST(DecoderTensors, FoundByTheirNamesInGgufFiles) {
  DecoderShape all = shape();
  all.query_key_value_biases = all.output_bias = all.feed_forward_biases = all.query_key_norm = all.norms_after_blocks = true;
  size_t count = 0;
  for_each_tensor(all, [&](const DecoderTensor& tensor) {
    const auto found = find_gguf_tensor(all, tensor.gguf_name);
    ASSERT_TRUE(found.has_value()) << tensor.gguf_name;
    EXPECT_EQ(found->name, tensor.name);
    EXPECT_EQ(found->layer, tensor.layer);
    ++count;
  });
  EXPECT_EQ(count, 3u + 3 * (9 + 7 + 4));
  for (const char* const name : {"blk.3.attn_q.weight", "blk.01.attn_q.weight", "blk..attn_q.weight", "blk.-1.attn_q.weight",
                                 "blk.1", "blk.1.", "blk.1.output.weight", "attn_q.weight", "blk.1.attn_q", "output.weight ", ""}) {
    EXPECT_FALSE(find_gguf_tensor(all, name).has_value()) << name;
  }
}

}  // namespace
}  // namespace tritllm
