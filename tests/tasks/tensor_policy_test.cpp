// The decision what becomes of each tensor, by the names that real models give their tensors.
#include "tasks/tensor_policy.h"

#include <gtest/gtest.h>

#include "core/json.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace tritllm {
namespace {

TensorRole role(const std::string& name, std::vector<uint64_t> shape, ElementType type = ElementType::kBF16,
                const Json& config = Json::object()) {
  return TensorRoles(config).of(FakeModel().add(name, std::move(shape), type).source().tensors[0]);
}

using NamedShapes = std::vector<std::pair<std::string, std::vector<uint64_t>>>;

void expect_roles(TensorRole expected, const NamedShapes& tensors, const Json& config = Json::object()) {
  for (const auto& [name, shape] : tensors) EXPECT_EQ(role(name, shape, ElementType::kBF16, config), expected) << name;
}

TEST(RoleOf, LinearMatrices) {
  expect_roles(TensorRole::kMatrix,
               {// Llama, Qwen2, Qwen3, Gemma 3
                {"model.layers.0.self_attn.q_proj.weight", {8, 4}},
                {"model.layers.0.self_attn.o_proj.weight", {4, 8}},
                {"model.layers.31.mlp.gate_proj.weight", {8, 4}},
                {"model.layers.31.mlp.up_proj.weight", {8, 4}},
                {"model.layers.31.mlp.down_proj.weight", {4, 8}},
                {"language_model.model.layers.0.self_attn.k_proj.weight", {4, 4}},
                // Mixtral, Qwen3-MoE, shared experts
                {"model.layers.0.block_sparse_moe.experts.7.w1.weight", {8, 4}},
                {"model.layers.0.mlp.experts.127.down_proj.weight", {4, 8}},
                {"model.layers.0.mlp.shared_expert.up_proj.weight", {8, 4}},
                // gpt-oss and Llama 4: one stack of all experts
                {"model.layers.0.mlp.experts.gate_up_proj", {4, 8, 4}},
                {"model.layers.0.mlp.experts.down_proj", {4, 4, 8}},
                {"language_model.model.layers.1.feed_forward.experts.gate_up_proj", {2, 8, 4}},
                // Granite MoE: stacks that are called linear
                {"model.layers.0.block_sparse_moe.input_linear.weight", {4, 8, 4}},
                {"model.layers.0.block_sparse_moe.output_linear.weight", {4, 4, 8}},
                // Others: fused matrices, StarCoder, a feed-forward gate that is called so, names inside of layers
                {"model.layers.0.self_attn.qkv_proj.weight", {8, 4}},
                {"h.0.attn.c_attn.weight", {12, 4}},
                {"model.layers.0.mlp.gate.weight", {4096, 4}},
                {"model.layers.0.attention.output.weight", {4, 4}},
                {"model.layers.0.mlp.shared_experts.up_proj.weight", {8, 4}},
                {"encoder.layer.0.attention.output.dense.weight", {4, 4}}});
}

TEST(RoleOf, EmbeddingsAndHeads) {
  expect_roles(TensorRole::kEmbedding, {{"model.embed_tokens.weight", {9, 4}},
                                        {"language_model.model.embed_tokens.weight", {9, 4}},
                                        {"transformer.wte.weight", {9, 4}},
                                        {"gpt_neox.embed_in.weight", {9, 4}},
                                        {"tok_embeddings.weight", {9, 4}},
                                        {"shared.weight", {9, 4}},
                                        {"model.shared.weight", {9, 4}},
                                        {"model.embed_tokens_per_layer.weight", {9, 4}}});
  expect_roles(TensorRole::kHead, {{"lm_head.weight", {9, 4}},
                                   {"language_model.lm_head.weight", {9, 4}},
                                   {"embed_out.weight", {9, 4}},
                                   {"score.weight", {2, 4}},
                                   {"output.weight", {9, 4}}});
  // One row for each token, outside of the layers.
  const Json config{{"vocab_size", 9}};
  expect_roles(TensorRole::kEmbedding, {{"rwkv.embeddings.weight", {9, 4}}, {"backbone.embedding.weight", {9, 4}}}, config);
  expect_roles(TensorRole::kHead, {{"cls.predictions.decoder.weight", {9, 4}}, {"proj_out.weight", {9, 4}}}, config);
  expect_roles(TensorRole::kMatrix, {{"model.layers.3.mlp.up_proj.weight", {9, 4}}, {"cls.dense.weight", {4, 4}}}, config);
}

TEST(RoleOf, TowersAndWhatJoinsThemToTheText) {
  expect_roles(TensorRole::kTower, {{"vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", {8, 4}},
                                    {"model.visual.blocks.0.attn.qkv.weight", {8, 4}},
                                    {"visual.merger.mlp.0.weight", {8, 4}},
                                    {"audio_tower.layers.0.fc1.weight", {8, 4}},
                                    {"model.mm_projector.0.weight", {8, 4}},
                                    {"multi_modal_projector.linear_1.weight", {8, 4}},
                                    {"model.connector.modality_projection.proj.weight", {8, 4}}});
  FakeModel model;
  model.add("vision_tower.layers.0.fc1.weight", {8, 4}).add("model.layers.0.mlp.up_proj.weight", {8, 4});
  EXPECT_EQ(plan_tensors(model.source(), {}, 2)[0].fate, Fate::kKept);
  TensorPolicy asked;
  asked.rules = {parse_depth_rule("vision=3")};
  EXPECT_EQ(plan_tensors(model.source(), asked, 2)[0].depth, 3);
}

// Matrices whose inputs come first, by family and by the hidden size.
TEST(RoleOf, MatricesStoredTheOtherWayRound) {
  expect_roles(TensorRole::kTransposed, {{"h.0.attn.c_attn.weight", {4, 12}}, {"transformer.h.0.mlp.c_proj.weight", {16, 4}}},
               {{"model_type", "gpt2"}});
  expect_roles(TensorRole::kTransposed,
               {{"model.layers.0.mlp.experts.gate_up_proj", {2, 4, 4}}, {"model.layers.0.mlp.experts.down_proj", {2, 4, 4}}},
               {{"model_type", "gpt_oss"}});
  const Json config{{"hidden_size", 4}};
  expect_roles(TensorRole::kTransposed,
               {{"model.layers.0.mlp.experts.gate_up_proj", {2, 4, 6}}, {"model.layers.0.mlp.experts.down_proj", {2, 6, 4}}},
               config);
  expect_roles(TensorRole::kMatrix,
               {{"model.layers.0.mlp.experts.gate_up_proj", {2, 6, 4}}, {"model.layers.0.mlp.experts.down_proj", {2, 4, 6}}},
               config);
  FakeModel model(config);
  model.add("model.layers.0.mlp.experts.down_proj", {2, 6, 4}).add("model.layers.0.self_attn.q_proj.weight", {4, 4});
  expect_error(ErrorCode::kUnsupported, "inputs before outputs", [&] { plan_tensors(model.source(), {}, 2); });
  TensorPolicy policy;
  policy.rules = {parse_depth_rule("experts=keep")};
  EXPECT_EQ(plan_tensors(model.source(), policy, 2)[0].fate, Fate::kKept);
}

TEST(PlanTensors, AModelOfWhichNothingWouldChangeIsRefused) {
  FakeModel model;
  model.add("model.embed_tokens.weight", {9, 4}).add("model.norm.weight", {4});
  expect_error(ErrorCode::kUnsupported, "no tensor of the model would become ternary",
               [&] { plan_tensors(model.source(), {}, 2); });
}

TEST(RoleOf, WhatIsKept) {
  expect_roles(TensorRole::kOther, {{"model.norm.weight", {4}},
                                    {"model.layers.0.input_layernorm.weight", {4}},
                                    {"model.layers.0.self_attn.q_norm.weight", {4}},
                                    {"model.layers.0.self_attn.q_proj.bias", {8}},
                                    {"model.layers.0.block_sparse_moe.gate.weight", {8, 4}},
                                    {"model.layers.0.mlp.gate.weight", {8, 4}},
                                    {"model.layers.0.mlp.gate.wg.weight", {8, 4}},
                                    {"model.layers.0.mlp.shared_expert_gate.weight", {1, 4}},
                                    {"model.layers.0.mlp.router.weight", {4, 4}},
                                    {"model.layers.0.block_sparse_moe.router.layer.weight", {4, 4}},
                                    {"model.layers.0.mlp.router.bias", {4}},
                                    {"model.language_model.layers.0.altup.modality_router.weight", {4, 4}},
                                    {"model.layers.0.mlp.experts.gate_up_proj_bias", {4, 8}},
                                    {"model.layers.0.self_attn.sinks", {8}},
                                    {"transformer.wpe.weight", {9, 4}},
                                    {"h.0.ln_1.weight", {4}},
                                    {"vision_tower.vision_model.embeddings.position_embedding.weight", {9, 4}},
                                    {"vision_tower.vision_model.embeddings.patch_embedding.weight", {4, 3, 2, 2}},
                                    {"visual.patch_embed.proj.weight", {4, 3, 2, 2, 2}},
                                    {"model.layers.0.linear_attn.conv1d.weight", {8, 1, 4}},
                                    {"model.layers.0.mixer.conv1d.weight", {8, 1, 4}},
                                    {"model.layers.0.mixer.A_log", {8, 4}},
                                    {"multi_modal_projector.mm_input_projection_weight", {4, 4}},
                                    {"weight", {4, 4}}});
}

TEST(RoleOf, ARouterHasOneRowForEachExpert) {
  const Json config{{"num_local_experts", 8}};
  expect_roles(TensorRole::kOther, {{"model.layers.0.feed_forward.selector.weight", {8, 4}}}, config);
  expect_roles(TensorRole::kMatrix,
               {{"model.layers.0.feed_forward.experts.0.w1.weight", {8, 4}}, {"model.layers.0.self_attn.k_proj.weight", {8, 4}}},
               config);
}

TEST(RoleOf, OnlyFloatingPointWithContents) {
  EXPECT_EQ(role("model.layers.0.mlp.up_proj.weight", {8, 4}, ElementType::kU8), TensorRole::kOther);
  EXPECT_EQ(role("model.layers.0.mlp.up_proj.weight", {8, 4}, ElementType::kI64), TensorRole::kOther);
  EXPECT_EQ(role("model.layers.0.mlp.up_proj.weight", {8, 0}), TensorRole::kOther);
  EXPECT_EQ(role("model.layers.0.mlp.up_proj.weight", {0, 4}), TensorRole::kOther);
  EXPECT_EQ(role("model.layers.0.mlp.up_proj.weight", {8, 4}, ElementType::kF64), TensorRole::kMatrix);
  EXPECT_EQ(role("model.layers.0.mlp.up_proj.weight", {8, 256}, ElementType::kQ4_K), TensorRole::kMatrix);
}

FakeModel sample_model(bool tied = false) {
  FakeModel model(Json{{"tie_word_embeddings", tied}});
  model.add("model.embed_tokens.weight", {9, 4})
      .add("model.layers.0.self_attn.q_proj.weight", {8, 4})
      .add("model.layers.0.mlp.down_proj.weight", {4, 8})
      .add("model.layers.1.mlp.down_proj.weight", {4, 8})
      .add("model.norm.weight", {4})
      .add("lm_head.weight", {9, 4});
  return model;
}

// For each tensor its depth, 0 where it is kept, −1 where it is tied.
std::vector<int> depths(const FakeModel& model, const TensorPolicy& policy, int depth = 2) {
  std::vector<int> found;
  for (const TensorPlan& plan : plan_tensors(model.source(), policy, depth)) {
    found.push_back(plan.fate == Fate::kTernary ? plan.depth : plan.fate == Fate::kTied ? -1 : 0);
  }
  return found;
}

TEST(PlanTensors, MatricesGetTheDepthOfTheConfiguration) {
  for (int depth = 1; depth <= 4; ++depth)
    EXPECT_EQ(depths(sample_model(), {}, depth), (std::vector<int>{0, depth, depth, depth, 0, 0}));
}

TEST(PlanTensors, RulesChangeDepthsAndTheLastOneWins) {
  TensorPolicy policy;
  policy.rules = {parse_depth_rule("down_proj=3"), parse_depth_rule("layers\\.1\\.=4"), parse_depth_rule("q_proj=keep")};
  EXPECT_EQ(depths(sample_model(), policy), (std::vector<int>{0, 0, 3, 4, 0, 0}));
  policy.rules = {parse_depth_rule("layers\\.1\\.=4"), parse_depth_rule("down_proj=3")};
  EXPECT_EQ(depths(sample_model(), policy), (std::vector<int>{0, 2, 3, 3, 0, 0}));
}

TEST(PlanTensors, ARuleThatMatchesNoMatrixIsRefused) {
  for (const std::string pattern : {"up_proj", "norm", "embed_tokens", "^layers"}) {
    TensorPolicy policy;
    policy.rules = {parse_depth_rule("q_proj=1"), parse_depth_rule(pattern + "=3")};
    expect_error(ErrorCode::kUsage, pattern, [&] { depths(sample_model(), policy); });
  }
}

TEST(PlanTensors, EmbeddingAndHeadOnDemand) {
  TensorPolicy policy;
  policy.embedding_depth = 4;
  policy.head_depth = 3;
  EXPECT_EQ(depths(sample_model(), policy), (std::vector<int>{4, 2, 2, 2, 0, 3}));
}

TEST(PlanTensors, ATiedHeadFollowsItsEmbedding) {
  const FakeModel model = sample_model(true);
  EXPECT_EQ(depths(model, {}), (std::vector<int>{0, 2, 2, 2, 0, -1}));
  EXPECT_EQ(plan_tensors(model.source(), {}, 2).back().tied_to, "model.embed_tokens.weight");
  TensorPolicy policy;
  policy.embedding_depth = 4;
  EXPECT_EQ(depths(model, policy), (std::vector<int>{4, 2, 2, 2, 0, -1}));
  policy.head_depth = 4;
  expect_error(ErrorCode::kUsage, "tied to its embedding", [&] { depths(model, policy); });
}

TEST(PlanTensors, TheTextPartOfAMultimodalConfigTellsOfTies) {
  FakeModel model(Json{{"text_config", {{"tie_word_embeddings", true}}}});
  model.add("language_model.model.embed_tokens.weight", {9, 4})
      .add("language_model.lm_head.weight", {9, 4})
      .add("language_model.model.layers.0.mlp.up_proj.weight", {8, 4});
  EXPECT_EQ(depths(model, {}), (std::vector<int>{0, -1, 2}));
}

TEST(PlanTensors, RefusesTiesOfTensorsThatDiffer) {
  for (const bool other_shape : {false, true}) {
    FakeModel model(Json{{"tie_word_embeddings", true}});
    model.add("model.embed_tokens.weight", {9, 4})
        .add("lm_head.weight", {9, other_shape ? 5u : 4u}, ElementType::kBF16, std::byte{1});
    expect_error(ErrorCode::kBadInput, "contents differ", [&] { depths(model, {}); });
  }
}

TEST(PlanTensors, RefusesTypesThatMeanNothingByThemselves) {
  for (const ElementType type : {ElementType::kF8E4M3, ElementType::kF8E5M2, ElementType::kC64}) {
    FakeModel model;
    model.add("model.layers.0.mlp.up_proj.weight", {8, 4}, type);
    expect_error(ErrorCode::kUnsupported, "cannot be read", [&] { depths(model, {}); });
  }
}

TEST(DepthRule, IsARegularExpressionAndADepth) {
  const DepthRule rule = parse_depth_rule("a=b.*=3");
  EXPECT_EQ(rule.pattern, "a=b.*");
  EXPECT_EQ(rule.depth, 3);
  EXPECT_EQ(parse_depth_rule("x=keep").depth, std::nullopt);
  for (const char* const text : {"", "x", "=3", "x=", "x=0", "x=5", "x=22", "x=two", "x=3 "}) {
    expect_error(ErrorCode::kUsage, "REGEX=D", [&] { parse_depth_rule(text); });
  }
  expect_error(ErrorCode::kUsage, "not a regular expression", [] { parse_depth_rule("(=3"); });
}

// A pattern that explodes on a hostile name ends with an error instead of hours of matching.
TEST(DepthRule, MatchingIsBounded) {
  FakeModel model;
  model.add("model." + std::string(60, 'a') + "!.weight", {8, 4});
  TensorPolicy policy;
  policy.rules = {parse_depth_rule("(a+)+(a+)+(a+)+$=3")};
  expect_error(ErrorCode::kUsage, "cannot be matched", [&] { depths(model, policy); });
}

TEST(TensorPolicy, ADescriptionForEachDecision) {
  TensorPolicy a, b;
  EXPECT_EQ(a.description(), b.description());
  b.embedding_depth = 2;
  EXPECT_NE(a.description(), b.description());
  a.head_depth = 2;
  EXPECT_NE(a.description(), b.description());
  TensorPolicy first, second;
  first.rules = {parse_depth_rule("a=1"), parse_depth_rule("b=2")};
  second.rules = {parse_depth_rule("b=2"), parse_depth_rule("a=1")};
  EXPECT_NE(first.description(), second.description());
}

}  // namespace
}  // namespace tritllm
