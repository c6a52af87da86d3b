// Recipe exact over whole models: FP16 folders that the other recipes made are packed, and give the same folders again.
#include <gtest/gtest.h>

#include "io/packed_checkpoint.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"
#include "tasks/dequantize.h"
#include "tasks/merge.h"
#include "tasks/quantize_model.h"
#include "tasks/verify.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;

class Pack : public testing::Test {
 protected:
  void SetUp() override { write_tiny_model(source_); }

  QuantizeOptions options(const fs::path& model, const std::string& out) const {
    QuantizeOptions options;
    options.model = model;
    options.output.folder = folder_ / out;
    options.threads = 2;
    return options;
  }
  // The FP16 folder of a configuration.
  fs::path quantized(const std::string& config, const std::vector<std::string>& rules = {}) const {
    QuantizeOptions quantize = options(source_, "out");
    quantize.configs = {codec::parse_config(config)};
    for (const std::string& rule : rules) quantize.policy.rules.push_back(parse_depth_rule(rule));
    quantize_model(quantize);
    return folder_ / "out" / config / "model";
  }
  QuantizeOptions pack_options(const fs::path& model, const std::string& out) const {
    QuantizeOptions pack = options(model, out);
    pack.configs = {codec::parse_config("exact")};
    pack.output.emit_model = false;
    return pack;
  }
  fs::path packed(const std::string& out) const { return folder_ / out / "exact" / "packed"; }

  const TemporaryFolder folder_;
  const fs::path source_ = folder_ / "Tiny";
  ThreadPool pool_{2};
};

TEST_F(Pack, GivesTheFoldersOfTheOtherRecipesBack) {
  for (const std::string recipe : {"uniform", "optimal"}) {
    for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
      const std::string config = recipe + "-d" + std::to_string(depth);
      SCOPED_TRACE(config);
      const fs::path model = quantized(config), again = folder_ / (config + "-again");
      quantize_model(pack_options(model, config));
      dequantize_packed(packed(config), again, pool_, [](const std::string&) {});
      EXPECT_EQ(read_plainly(again / "model.safetensors"), read_plainly(model / "model.safetensors"));
      const Manifest manifest = read_manifest(packed(config));
      EXPECT_EQ(manifest.recipe, "exact");
      for (const TensorRecord& record : manifest.tensors) {
        if (record.fate != Fate::kTernary) continue;
        EXPECT_LE(record.depth, depth);
        EXPECT_EQ(record.error.relative_mse, 0.0);
        EXPECT_FALSE(record.error.sqnr_db);
      }
      EXPECT_TRUE(verify_model(packed(config), pool_).empty());
      EXPECT_TRUE(verify_against_source(packed(config), model, 0, pool_).empty());
    }
  }
}

TEST_F(Pack, EachMatrixHasTheDepthThatItNeeds) {
  quantize_model(pack_options(quantized("optimal-d4", {"q_proj=1", "up_proj=3"}), "packed"));
  for (const TensorRecord& record : read_manifest(packed("packed")).tensors) {
    if (record.fate != Fate::kTernary) continue;
    const bool is_query = record.name.find("q_proj") != record.name.npos, is_up = record.name.find("up_proj") != record.name.npos;
    EXPECT_EQ(record.depth, is_query ? 1 : is_up ? 3 : 4) << record.name;
  }
}

TEST_F(Pack, PartsGiveWhatOneRunMakes) {
  const fs::path model = quantized("optimal-d2", {"down_proj=3"});
  QuantizeOptions whole = pack_options(model, "whole");
  whole.output.emit_model = true;
  quantize_model(whole);
  for (uint64_t i = 1; i <= 3; ++i) {
    QuantizeOptions part = pack_options(model, "parts");
    part.output.part = Part{i, 3};
    quantize_model(part);
  }
  MergeRequest request;
  request.folders = {folder_ / "parts"};
  request.out = folder_ / "merged";
  merge_parts(request, pool_);
  expect_same_files(packed("merged"), packed("whole"));
  // The FP16 folder that comes with it holds the source's weights.
  EXPECT_EQ(read_plainly(folder_ / "whole" / "exact" / "model" / "model.safetensors"), read_plainly(model / "model.safetensors"));
}

TEST_F(Pack, ASecondRunFindsEverythingDone) {
  const QuantizeOptions pack = pack_options(quantized("optimal-d2"), "packed");
  EXPECT_FALSE(quantize_model(pack).front().was_complete);
  EXPECT_TRUE(quantize_model(pack).front().was_complete);
}

TEST_F(Pack, WhatIsNotTernaryIsNamedUnlessItIsKept) {
  const fs::path model = quantized("optimal-d2", {"o_proj=keep", "k_proj=keep"});
  QuantizeOptions pack = pack_options(model, "packed");
  expect_error(ErrorCode::kBadInput, "model.layers.0.self_attn.k_proj.weight': row 0, columns 0 to 15",
               [&] { quantize_model(pack); });
  expect_error(ErrorCode::kBadInput, "3 other matrices are not ternary either: model.layers.0.self_attn.o_proj.weight",
               [&] { quantize_model(pack); });
  EXPECT_FALSE(fs::exists(folder_ / "packed" / "exact"));
  pack.policy.rules = {parse_depth_rule("o_proj|k_proj=keep")};
  quantize_model(pack);
  EXPECT_EQ(read_manifest(packed("packed")).recipe, "exact");
}

}  // namespace
}  // namespace tritllm
