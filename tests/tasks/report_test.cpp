// report.json: the names that scripts rely on, and sums over matrices.
#include "tasks/report.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tritllm {
namespace {

Manifest sample_manifest() {
  Manifest manifest;
  manifest.recipe = "uniform-d3";
  manifest.fingerprint = std::string(32, 'a');
  manifest.nominal_bits_per_weight = 5.05;
  manifest.stored_bits_per_weight = 5.1;
  TensorRecord large;
  large.name = "large";
  large.shape = {2, 8, 32};
  large.fate = Fate::kTernary;
  large.depth = 3;
  large.error = {.weight_energy = 30,
                 .relative_mse = 0.01,
                 .sqnr_db = 20.0,
                 .cosine = 0.99,
                 .max_abs_error = 0.5,
                 .clipped = 1,
                 .level_histogram = {1}};
  TensorRecord small = large;
  small.name = "small";
  small.shape = {4, 16};
  small.error.weight_energy = 10;
  small.error.relative_mse = 0.05;
  TensorRecord kept;
  kept.name = "norm";
  kept.shape = {16};
  kept.type = "F16";
  TensorRecord tied;
  tied.name = "head";
  tied.shape = {100, 100};
  tied.fate = Fate::kTied;
  tied.tied_to = "embedding";
  manifest.tensors = {large, small, kept, tied};
  return manifest;
}

TEST(Report, HasTheFieldsThatScriptsReadByName) {
  const Json report = report_json(sample_manifest(), {.seconds = 2, .thread_seconds = 4, .quantised_weights = 576, .threads = 2},
                                  {.packed = 1000, .model = 3000});
  EXPECT_EQ(report["recipe"], "uniform-d3");
  EXPECT_EQ(report["nominal_bits_per_weight"], 5.05);
  EXPECT_EQ(report["stored_bits_per_weight"], 5.1);
  EXPECT_EQ(report["weights"], 512 + 64);
  EXPECT_EQ(report["all_weights"], 512 + 64 + 16) << "tied tensors are counted once";
  EXPECT_EQ(report["seconds"], 2);
  EXPECT_EQ(report["weights_per_thread_second"], 144.0);
  EXPECT_EQ(report["packed_bytes"], 1000);
  EXPECT_EQ(report["model_bytes"], 3000);
  EXPECT_DOUBLE_EQ(report["file_bits_per_weight"].get<double>(), 8000.0 / 592);
  ASSERT_EQ(report["tensors"].size(), 4u);
  for (const char* const field : {"name", "shape", "depth", "fate", "relative_mse", "sqnr_db", "cosine", "max_abs_error"}) {
    EXPECT_TRUE(report["tensors"][0].contains(field)) << field;
  }
  EXPECT_EQ(report["tensors"][0]["shape"], (Json{2, 8, 32}));
  EXPECT_EQ(report["tensors"][2]["fate"], "kept");
  EXPECT_EQ(report["tensors"][3]["fate"], "tied");
  EXPECT_EQ(report["tensors"][3]["tied_to"], "embedding");
  for (const char* const storage : {"file", "checksum", "source_checksum"})
    EXPECT_FALSE(report["tensors"][0].contains(storage)) << storage;
}

TEST(Report, ErrorsOfMatricesAddUpByTheirEnergy) {
  const double expected = (30 * 0.01 + 10 * 0.05) / 40;
  const ModelError error = model_error(sample_manifest().tensors);
  EXPECT_DOUBLE_EQ(error.relative_mse, expected);
  EXPECT_NEAR(*error.sqnr_db, -10 * std::log10(expected), 1e-4);
  const Json report = report_json(sample_manifest(), {}, {});
  EXPECT_EQ(report["sqnr_db"], *error.sqnr_db);
  EXPECT_TRUE(report["file_bits_per_weight"].is_null());
  EXPECT_TRUE(report["weights_per_thread_second"].is_null());
}

TEST(Report, WithoutErrorThereIsNoSqnr) {
  Manifest manifest = sample_manifest();
  for (TensorRecord& record : manifest.tensors) record.error.relative_mse = 0;
  EXPECT_TRUE(report_json(manifest, {}, {})["sqnr_db"].is_null());
  manifest.tensors.clear();
  EXPECT_TRUE(report_json(manifest, {}, {})["sqnr_db"].is_null());
}

}  // namespace
}  // namespace tritllm
