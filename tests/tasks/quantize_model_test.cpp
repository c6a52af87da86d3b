// Whole runs over a tiny model: what is planned is what is written, several configurations at once equal one at a time, threads and
// memory change nothing, and both ways back. transformers reads such folders in tests/cli/test_quantize_oracle.py.
#include "tasks/quantize_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "codec/grouping.h"
#include "core/half.h"
#include "core/thread_pool.h"
#include "io/packed_checkpoint.h"
#include "io/parallel_loop.h"
#include "support/expect_error.h"
#include "support/quantized.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"
#include "tasks/dequantize.h"
#include "tasks/inspect.h"
#include "tasks/verify.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;

using codec::Config;
using codec::Recipe;

class QuantizeModel : public testing::Test {
 protected:
  QuantizeOptions options(std::vector<Config> configs, const std::string& out = "out") {
    QuantizeOptions options;
    options.model = model_;
    options.configs = std::move(configs);
    options.output.folder = folder_ / out;
    options.threads = 2;
    return options;
  }
  const TemporaryFolder folder_;
  const fs::path model_ = folder_ / "Tiny";
};

uint64_t weight_file_bytes(const fs::path& folder) {
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") bytes += entry.file_size();
  }
  return bytes;
}

uint64_t all_bytes(const fs::path& folder) {
  uint64_t bytes = 0;
  for (const auto& [name, contents] : files_below(folder)) bytes += contents.size();
  return bytes;
}

TEST_F(QuantizeModel, WhatIsPlannedIsWhatIsWritten) {
  write_tiny_model(model_);
  const std::vector<Config> configs{{Recipe::kUniform, 1}, {Recipe::kOptimal, 3}};
  const Json plan = plan_quantization(options(configs));
  EXPECT_FALSE(fs::exists(folder_ / "out")) << "a plan writes nothing";
  const std::vector<ConfigResult> results = quantize_model(options(configs));
  ASSERT_EQ(results.size(), 2u);
  uint64_t planned_bytes = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    const Json &planned = plan["configs"][i], &report = results[i].report;
    const fs::path out = folder_ / "out" / results[i].config;
    EXPECT_EQ(planned["config"], results[i].config);
    EXPECT_EQ(planned["weights"], report["weights"]);
    EXPECT_EQ(planned["nominal_bits_per_weight"], report["nominal_bits_per_weight"]);
    EXPECT_EQ(planned["stored_bits_per_weight"], report["stored_bits_per_weight"]);
    EXPECT_EQ(report["packed_bytes"], weight_file_bytes(out / "packed"));
    EXPECT_EQ(report["model_bytes"], weight_file_bytes(out / "model"));
    EXPECT_EQ(parse_json(read_plainly(out / "report.json"), "report"), report);
    planned_bytes += planned["bytes_to_write"].get<uint64_t>();
    // Beside weights, index and side files only small documents come.
    const uint64_t written = all_bytes(out / "packed") + all_bytes(out / "model");
    EXPECT_LE(planned["bytes_to_write"].get<uint64_t>(), written);
    EXPECT_LT(written - planned["bytes_to_write"].get<uint64_t>(), 40'000u);
  }
  EXPECT_EQ(plan["bytes_to_write"], planned_bytes);
  EXPECT_EQ(plan["all_weights"], results[0].report["all_weights"]);
  const Json again = plan_quantization(options(configs));
  EXPECT_EQ(again["bytes_to_write"], 0) << "all is there";
  EXPECT_TRUE(again["configs"][1]["complete"]);
}

TEST_F(QuantizeModel, WritesTheQuantisersBytesAndTheSourcesOtherTensors) {
  write_tiny_model(model_);
  quantize_model(options({{Recipe::kOptimal, 2}}));
  ThreadPool pool(2);
  const ModelSource source = open_model(model_);
  const PackedCheckpoint packed = PackedCheckpoint::open(folder_ / "out" / "optimal-d2" / "packed", loop_over(pool));
  const ModelSource plain = open_model(folder_ / "out" / "optimal-d2" / "model");
  ASSERT_EQ(packed.manifest().tensors.size(), source.tensors.size()) << "every source tensor is listed once";
  size_t matrices = 0;
  for (size_t i = 0; i < source.tensors.size(); ++i) {
    const SourceTensor& tensor = source.tensors[i];
    const TensorRecord& record = packed.manifest().tensors[i];
    SCOPED_TRACE(tensor.name);
    EXPECT_EQ(record.name, tensor.name);
    EXPECT_EQ(record.shape, tensor.shape);
    const auto found =
        std::find_if(plain.tensors.begin(), plain.tensors.end(), [&](const SourceTensor& t) { return t.name == tensor.name; });
    ASSERT_NE(found, plain.tensors.end());
    EXPECT_EQ(found->shape, tensor.shape);
    if (tensor.type == ElementType::kI64) {
      EXPECT_EQ(record.fate, Fate::kKept);
      EXPECT_TRUE(std::ranges::equal(found->bytes, tensor.bytes));
      continue;
    }
    std::vector<float> weights(tensor.elements());
    read_float32(tensor, 0, weights);
    if (record.fate == Fate::kTernary) {
      ++matrices;
      const codec::MatrixShape shape{tensor.rows(), tensor.columns()};
      const Quantized expected = quantize(weights, shape, {Recipe::kOptimal, 2}, codec::scalar_group_kernels());
      EXPECT_EQ(record.checksum, expected.checksum());
      EXPECT_EQ(record.error.relative_mse, expected.stats.relative_mse());
      EXPECT_EQ(record.error.level_histogram, expected.stats.level_histogram);
      std::vector<float> padded(expected.codes.size());
      for (size_t k = 0; k < padded.size(); ++k) {
        padded[k] = static_cast<float>(expected.codes[k]) * (expected.codebook()[expected.scale_codes[k / 16]] / 4.0f);
      }
      codec::strip_padding(shape, 0, shape.groups(), padded.data(), weights.data());
    }
    for (size_t k = 0; k < weights.size(); ++k) {
      uint16_t half;
      std::memcpy(&half, found->bytes.data() + 2 * k, 2);
      ASSERT_EQ(half, half_from_float(weights[k])) << "weight " << k;
    }
  }
  EXPECT_EQ(matrices, 10u);
}

TEST_F(QuantizeModel, ThreadsMemoryAndCompanyChangeNoByte) {
  write_tiny_model(model_);
  const std::vector<Config> configs{{Recipe::kUniform, 2}, {Recipe::kOptimal, 2}, {Recipe::kOptimal, 4}};
  quantize_model(options(configs, "together"));
  for (const Config config : configs) {
    QuantizeOptions alone = options({config}, "alone");
    alone.threads = 1;
    alone.max_memory = uint64_t{90} << 20;
    quantize_model(alone);
    for (const char* const kind : {"packed", "model"}) {
      expect_same_files(folder_ / "alone" / codec::config_name(config) / kind,
                        folder_ / "together" / codec::config_name(config) / kind);
    }
  }
}

TEST_F(QuantizeModel, DequantizingGivesTheFp16FolderByteForByte) {
  write_tiny_model(model_, {.tied = true});
  QuantizeOptions mixed = options({{Recipe::kOptimal, 1}});
  mixed.policy.rules = {parse_depth_rule("down_proj=4")};
  mixed.policy.embedding_depth = 3;
  quantize_model(mixed);
  ThreadPool pool(2);
  const fs::path out = folder_ / "out" / "optimal-d1";
  dequantize_packed(out / "packed", folder_ / "back", pool);
  expect_same_files(folder_ / "back", out / "model");
  EXPECT_TRUE(verify_model(out / "packed", pool).empty());
  EXPECT_TRUE(verify_against_source(out / "packed", model_, 0, pool).empty());
  expect_error(ErrorCode::kConflict, "exists already", [&] { dequantize_packed(out / "packed", folder_ / "back", pool); });

  const Json depths = parse_json(read_plainly(out / "packed" / "config.json"), "config")["quantization_config"]["depths"];
  EXPECT_EQ(depths["model.layers.1.mlp.down_proj.weight"], 4);
  EXPECT_EQ(depths["model.layers.1.mlp.up_proj.weight"], 1);
  EXPECT_EQ(depths["model.embed_tokens.weight"], 3);
  EXPECT_FALSE(depths.contains("lm_head.weight"));
}

TEST_F(QuantizeModel, HostileNamesInTheSourceDoNotBreakTheWayBack) {
  const std::string names[] = {
      "a b \"c\" ", "x\n---\nlicense: y", "'''", std::string(200, 'n'), "[org]<model>|`x` ", "a --configs uniform-d1 --out out",
      "#x: y"};
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const fs::path model = folder_ / name;
    write_tiny_model(model, {.tied = false, .license = "\"x [ \" ]", .seed = 1});
    Json config = parse_json(read_plainly(model / "config.json"), "config");
    config["_name_or_path"] = name;  // no id of the hub, so the folder's name stands in the card
    write_plainly(model / "config.json", config.dump());
    QuantizeOptions fresh = options({{Recipe::kUniform, 1}});
    fresh.model = model;
    fresh.output.fresh = true;
    quantize_model(fresh);
    ThreadPool pool(1);
    fs::remove_all(folder_ / "back");
    const fs::path out = folder_ / "out" / "uniform-d1";
    dequantize_packed(out / "packed", folder_ / "back", pool);
    expect_same_files(folder_ / "back", out / "model");
  }
}

TEST_F(QuantizeModel, EmitChoosesTheFolders) {
  write_tiny_model(model_);
  QuantizeOptions packed = options({{Recipe::kUniform, 1}});
  packed.output.emit_model = false;
  write_plainly(model_ / "tokenizer.json", std::string(1'000'000, ' '));
  const Json plan = plan_quantization(packed);
  const Json report = quantize_model(packed)[0].report;
  EXPECT_LE(plan["bytes_to_write"].get<uint64_t>(), all_bytes(folder_ / "out" / "uniform-d1" / "packed"))
      << "side files are counted once";
  EXPECT_EQ(report["model_bytes"], 0);
  EXPECT_GT(report["packed_bytes"], 0);
  EXPECT_FALSE(fs::exists(folder_ / "out" / "uniform-d1" / "model"));
  QuantizeOptions plain = options({{Recipe::kUniform, 1}}, "other");
  plain.output.emit_packed = false;
  quantize_model(plain);
  EXPECT_FALSE(fs::exists(folder_ / "other" / "uniform-d1" / "packed"));
  EXPECT_TRUE(fs::exists(folder_ / "other" / "uniform-d1" / "model" / "model.safetensors"));
}

TEST_F(QuantizeModel, UnusableWeightsNameTensorRowAndColumn) {
  const TestTensor other = f32_tensor("model.layers.0.mlp.down_proj.weight", {1, 16}, std::vector<float>(16, 0.5f));
  for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 65505.0f, -1e30f}) {
    for (const char* const name : {"model.layers.0.mlp.up_proj.weight", "model.norm.weight"}) {
      fs::remove_all(folder_ / "out");
      std::vector<float> weights(40 * 50, 0.5f);
      weights[7 * 50 + 33] = wrong;
      write_plainly(model_ / "config.json", "{}");
      write_plainly(model_ / "model.safetensors", safetensors_text({f32_tensor(name, {40, 50}, weights), other}));
      SCOPED_TRACE(testing::Message() << wrong << " in " << name);
      // Numbers that FP16 lacks are no damage.
      const ErrorCode code = std::isfinite(wrong) ? ErrorCode::kUnsupported : ErrorCode::kBadInput;
      expect_error(code, std::string(name) + "': row 7, column 33", [&] { quantize_model(options({{Recipe::kOptimal, 2}})); });
      EXPECT_FALSE(fs::exists(folder_ / "out" / "optimal-d2" / "packed")) << "no half-made result may have its name";
    }
  }
}

TEST_F(QuantizeModel, RefusesQuantisedModelsAndTheSourceAsOutput) {
  write_tiny_model(model_);
  expect_error(ErrorCode::kConflict, "is the source", [&] { quantize_model(options({{Recipe::kOptimal, 2}}, "Tiny")); });
  quantize_model(options({{Recipe::kOptimal, 2}}));
  QuantizeOptions twice = options({{Recipe::kOptimal, 2}}, "twice");
  twice.model = folder_ / "out" / "optimal-d2" / "packed";
  EXPECT_THROW(quantize_model(twice), Error);
  QuantizeOptions onto_itself = options({{Recipe::kOptimal, 2}});
  onto_itself.model = folder_ / "out" / "optimal-d2" / "model";
  onto_itself.output.fresh = true;
  expect_error(ErrorCode::kConflict, "is the source", [&] { quantize_model(onto_itself); });
}

TEST_F(QuantizeModel, ResultsOfOtherOptionsAreNotReplacedWithoutFresh) {
  write_tiny_model(model_);
  quantize_model(options({{Recipe::kUniform, 2}}));
  QuantizeOptions other = options({{Recipe::kUniform, 2}});
  other.policy.head_depth = 3;
  expect_error(ErrorCode::kConflict, "options.output.fresh", [&] { quantize_model(other); });
  EXPECT_TRUE(quantize_model(options({{Recipe::kUniform, 2}}))[0].was_complete);
  other.output.fresh = true;
  const ConfigResult replaced = quantize_model(other)[0];
  EXPECT_FALSE(replaced.was_complete);
  EXPECT_EQ(replaced.report["tensors"][13]["depth"], 3);
}

TEST_F(QuantizeModel, MemoryLimitsThatCannotHoldAreRefusedAtOnce) {
  write_tiny_model(model_);
  QuantizeOptions small = options({{Recipe::kUniform, 2}});
  small.max_memory = 1 << 20;
  expect_error(ErrorCode::kUsage, "options.max_memory", [&] { quantize_model(small); });
}

TEST_F(QuantizeModel, ThePlanCountsTheMemoryOfWhatRunsAtOnce) {
  write_tiny_model(model_);
  QuantizeOptions all = options({{Recipe::kUniform, 1}, {Recipe::kUniform, 2}, {Recipe::kOptimal, 1}, {Recipe::kOptimal, 2}});
  const auto planned = [](const QuantizeOptions& asked) { return plan_quantization(asked)["memory_bytes"].get<uint64_t>(); };
  const uint64_t roomy = planned(all), one = planned(options({{Recipe::kUniform, 1}}));
  EXPECT_GT(roomy, one);
  all.max_memory = one;
  EXPECT_EQ(planned(all), one) << "one configuration after the other";
  all.max_memory = (one + roomy) / 2;
  EXPECT_GT(planned(all), one);
  EXPECT_LE(planned(all), all.max_memory);
  all.max_memory = roomy;
  quantize_model(all);
  EXPECT_LT(planned(all), one) << "nothing is left to do";
}

TEST_F(QuantizeModel, ProgressCountsEachWeightOnce) {
  write_tiny_model(model_);
  QuantizeOptions counted = options({{Recipe::kUniform, 2}, {Recipe::kOptimal, 2}, {Recipe::kOptimal, 3}});
  uint64_t last = 0, most = 0, total = 0;
  counted.on_progress = [&](const QuantizeProgress& progress) {
    EXPECT_GE(progress.weights_done, last) << "progress never goes back";
    last = progress.weights_done;
    most = std::max(most, last);
    total = progress.weights_total;
    EXPECT_LE(progress.tensors_done, progress.tensors_total);
  };
  quantize_model(counted);
  EXPECT_EQ(last, total);
  EXPECT_EQ(most, total);
  const Json progress = parse_json(read_plainly(folder_ / "out" / "progress.json"), "progress");
  EXPECT_EQ(progress["state"], "done");
  EXPECT_EQ(progress["weights_done"], progress["weights_total"]);
}

TEST_F(QuantizeModel, ProgressTellsThatARunFailed) {
  std::vector<float> weights(40 * 50, 0.5f);
  weights.back() = std::numeric_limits<float>::quiet_NaN();
  write_plainly(model_ / "config.json", "{}");
  write_plainly(model_ / "model.safetensors", safetensors_text({f32_tensor("damaged.weight", {40, 50}, weights)}));
  expect_error(ErrorCode::kBadInput, "damaged.weight", [&] { quantize_model(options({{Recipe::kOptimal, 2}})); });
  const fs::path path = folder_ / "out" / "progress.json";
  const Json progress = parse_json(read_plainly(path), "progress");
  EXPECT_EQ(progress["state"], "failed");
  EXPECT_EQ(progress["tensor"], "damaged.weight");
  EXPECT_TRUE(progress["seconds_left"].is_null());

  fs::remove(path);
  fs::create_directories(path / "in the way");
  expect_error(ErrorCode::kBadInput, "damaged.weight", [&] { quantize_model(options({{Recipe::kOptimal, 2}})); });

  fs::remove_all(path);
  write_tiny_model(model_);
  QuantizeOptions again = options({{Recipe::kOptimal, 2}});
  again.output.fresh = true;
  quantize_model(again);
  EXPECT_EQ(parse_json(read_plainly(path), "progress")["state"], "done");
}

TEST_F(QuantizeModel, InspectTellsWhatIsThere) {
  write_tiny_model(model_, {.tied = true});
  const Json source = inspect_model(model_).whole();
  EXPECT_EQ(source["kind"], "hf_folder");
  EXPECT_EQ(source["license"], "apache-2.0");
  EXPECT_EQ(source["tensors"][0]["role"], "embedding");
  EXPECT_EQ(source["tensors"][2]["role"], "matrix");
  const Json report = quantize_model(options({{Recipe::kOptimal, 2}}))[0].report;
  const Json packed = inspect_model(folder_ / "out" / "optimal-d2" / "packed").whole();
  EXPECT_EQ(packed["kind"], "packed");
  EXPECT_EQ(packed["sqnr_db"], report["sqnr_db"]);
  EXPECT_EQ(packed["packed_bytes"], report["packed_bytes"]);
  EXPECT_EQ(packed["weights"], source["matrix_weights"]);
}

}  // namespace
}  // namespace tritllm
