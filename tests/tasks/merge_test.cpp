// Parts of a model joined: byte for byte what one run makes, whatever the number of parts; and parts that do not belong together.
#include "tasks/merge.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"
#include "tasks/quantize_model.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;

class Merge : public testing::Test {
 protected:
  void SetUp() override { write_tiny_model(model_, {.tied = true}); }

  QuantizeOptions options(const std::string& out, std::optional<Part> part = std::nullopt) {
    QuantizeOptions options;
    options.model = model_;
    options.configs = {{codec::Recipe::kOptimal, 2}, {codec::Recipe::kUniform, 1}};
    options.output.folder = folder_ / out;
    options.output.part = part;
    options.policy.rules = {parse_depth_rule("down_proj=3")};
    options.threads = 2;
    return options;
  }
  void make_parts(uint64_t count, const std::string& out = "parts") {
    for (uint64_t i = 1; i <= count; ++i) quantize_model(options(out, Part{i, count}));
  }
  std::vector<Json> merge(std::vector<fs::path> folders, const std::string& out = "merged") {
    MergeRequest request;
    request.folders = std::move(folders);
    request.out = folder_ / out;
    return merge_parts(request, pool_);
  }
  void expect_equal_to_whole(const std::string& merged) {
    for (const char* const config : {"optimal-d2", "uniform-d1"}) {
      for (const char* const kind : {"packed", "model"}) {
        expect_same_files(folder_ / merged / config / kind, folder_ / "whole" / config / kind);
      }
    }
  }

  const TemporaryFolder folder_;
  const fs::path model_ = folder_ / "Tiny";
  ThreadPool pool_{2};
};

TEST_F(Merge, GivesWhatOneRunMakes) {
  quantize_model(options("whole"));
  for (const uint64_t count : {1u, 3u, 25u}) {  // more parts than tensors: some are empty
    SCOPED_TRACE(count);
    const std::string name = std::to_string(count);
    make_parts(count, "parts" + name);
    const std::vector<Json> reports = merge({folder_ / ("parts" + name)}, "merged" + name);
    ASSERT_EQ(reports.size(), 2u);
    const Json whole = parse_json(read_plainly(folder_ / "whole" / "optimal-d2" / "report.json"), "report");
    for (const char* const field : {"recipe", "fingerprint", "source", "nominal_bits_per_weight", "stored_bits_per_weight",
                                    "weights", "sqnr_db", "tensors", "packed_bytes", "model_bytes"}) {
      EXPECT_EQ(reports[0][field], whole[field]) << field;
    }
    expect_equal_to_whole("merged" + name);
  }
}

TEST_F(Merge, TakesPartsFromSeveralFolders) {
  quantize_model(options("whole"));
  quantize_model(options("here", Part{1, 2}));
  quantize_model(options("there", Part{2, 2}));
  merge({folder_ / "there", folder_ / "here"});
  expect_equal_to_whole("merged");
}

TEST_F(Merge, RefusesMissingDoubledAndForeignParts) {
  make_parts(3);
  fs::create_directory(folder_ / "empty");
  expect_error(ErrorCode::kNotFound, "no finished part", [&] { merge({folder_ / "empty"}); });
  expect_error(ErrorCode::kConflict, "two folders", [&] { merge({folder_ / "parts", folder_ / "parts"}); });

  QuantizeOptions foreign = options("foreign", Part{2, 3});
  foreign.policy.embedding_depth = 4;
  quantize_model(foreign);
  fs::rename(folder_ / "parts" / "optimal-d2" / "part-2-of-3", folder_ / "spare");
  expect_error(ErrorCode::kConflict, "part 2 of 3 is missing", [&] { merge({folder_ / "parts"}); });
  fs::rename(folder_ / "foreign" / "optimal-d2" / "part-2-of-3", folder_ / "parts" / "optimal-d2" / "part-2-of-3");
  expect_error(ErrorCode::kConflict, "different runs", [&] { merge({folder_ / "parts"}); });
}

TEST_F(Merge, RefusesDamagedParts) {
  make_parts(2);
  const fs::path weights = folder_ / "parts" / "optimal-d2" / "part-1-of-2" / "trits-00001-of-00001.safetensors";
  std::string bytes = read_plainly(weights);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_plainly(weights, bytes);
  expect_error(ErrorCode::kBadInput, "checksum", [&] { merge({folder_ / "parts"}); });
  EXPECT_FALSE(fs::exists(folder_ / "merged" / "optimal-d2" / "packed"));
}

}  // namespace
}  // namespace tritllm
