// The manifest: written and read back, its own checksum, and everything that a hostile one may claim.
#include "io/manifest.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/checksum.h"
#include "core/json.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

const std::string kDigits = "0123456789abcdef0123456789abcdef";

Manifest sample_manifest() {
  Manifest manifest;
  manifest.tool_version = "0.1.0";
  manifest.recipe = "optimal-d1";
  manifest.fingerprint = kDigits;
  manifest.source_name = "org/\"model\" \xc3\xa9";
  manifest.source_kind = "hf_folder";
  manifest.source_digest = kDigits;
  manifest.source_types = {"BF16", "I64"};
  manifest.nominal_bits_per_weight = 1.8822;
  manifest.stored_bits_per_weight = 1.95;
  TensorRecord ternary{.name = "m.weight",
                       .shape = {2, 3, 40},
                       .source_type = "BF16",
                       .source_checksum = kDigits,
                       .fate = Fate::kTernary,
                       .depth = 1,
                       .type = "",
                       .tied_to = "",
                       .file = "trits-00001-of-00001.safetensors",
                       .checksum = kDigits,
                       .error = {}};
  ternary.error = {.weight_energy = 0.1,
                   .relative_mse = 1.0 / 3,
                   .sqnr_db = 4.7712,
                   .cosine = 0.9,
                   .max_abs_error = 1e-7,
                   .clipped = 3,
                   .level_histogram = {80, 90, 70}};
  TensorRecord exact = ternary;
  exact.name = "exact.weight";
  exact.error.sqnr_db.reset();
  const TensorRecord kept{.name = "ids",
                          .shape = {},
                          .source_type = "I64",
                          .source_checksum = kDigits,
                          .fate = Fate::kKept,
                          .depth = 0,
                          .type = "I64",
                          .tied_to = "",
                          .file = "trits-00001-of-00001.safetensors",
                          .checksum = kDigits,
                          .error = {}};
  const TensorRecord tied{.name = "lm_head.weight",
                          .shape = {2, 3, 40},
                          .source_type = "BF16",
                          .source_checksum = kDigits,
                          .fate = Fate::kTied,
                          .depth = 0,
                          .type = "",
                          .tied_to = "m.weight",
                          .file = "",
                          .checksum = "",
                          .error = {}};
  manifest.tensors = {ternary, exact, kept, tied};
  manifest.files = {{"trits-00001-of-00001.safetensors", FileRole::kWeights, 1000, kDigits},
                    {"trits.safetensors.index.json", FileRole::kIndex, 10, kDigits},
                    {"additional_chat_templates/a.jinja", FileRole::kSide, 0, kDigits}};
  return manifest;
}

TEST(Manifest, ComesBackAsItWasWritten) {
  Manifest manifest = sample_manifest();
  const std::string text = manifest_text(manifest);
  EXPECT_EQ(manifest_text(parse_manifest(text, "M")), text);
  manifest.part = PartOfModel{2, 3, 9, {1, 4, 5, 8}};
  const std::string part = manifest_text(manifest);
  EXPECT_EQ(manifest_text(parse_manifest(part, "M")), part);
  EXPECT_NE(part, text);

  const Manifest read = parse_manifest(text, "M");
  EXPECT_EQ(read.tensors[0].error.relative_mse, 1.0 / 3);
  EXPECT_EQ(read.tensors[0].error.level_histogram, (std::vector<uint64_t>{80, 90, 70}));
  EXPECT_EQ(read.tensors[0].matrix_shape().rows, 6u);
  EXPECT_FALSE(read.tensors[1].error.sqnr_db.has_value());
  EXPECT_EQ(read.tensors[3].tied_to, "m.weight");
  EXPECT_EQ(read.source_name, manifest.source_name);
}

TEST(Manifest, HoldsTheFactsOfTheCard) {
  Manifest manifest = sample_manifest();
  manifest.card = {.source_name = "Folder",
                   .options = " --embed-depth 4",
                   .name = "Owner/Name",
                   .base_model = "org/Name",
                   .revision = std::string(40, 'a'),
                   .license = "other",
                   .license_name = "own",
                   .license_link = "LICENSE"};
  EXPECT_EQ(parse_manifest(manifest_text(manifest), "M").card, manifest.card);
  manifest.card = {.source_name = "Folder"};
  EXPECT_EQ(parse_manifest(manifest_text(manifest), "M").card, manifest.card);
}

TEST(Manifest, EndsWithTheChecksumOfAllBeforeIt) {
  const std::string text = manifest_text(sample_manifest());
  const size_t line = text.rfind("  \"checksum\"");
  EXPECT_EQ(text.substr(line), "  \"checksum\": \"" + checksum_of(text.substr(0, line)) + "\"\n}\n");
  EXPECT_NO_THROW(parse_json(text, "M"));
}

TEST(Manifest, EveryChangedByteIsNoticed) {
  const std::string text = manifest_text(sample_manifest());
  for (size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_THROW(parse_manifest(damaged, "M"), Error) << "byte " << i;
    EXPECT_THROW(parse_manifest(text.substr(0, i), "M"), Error) << "cut at " << i;
  }
  EXPECT_THROW(parse_manifest(text + "\n", "M"), Error);
  expect_error(ErrorCode::kBadInput, "own checksum", [&] { parse_manifest(text + text, "M"); });
}

// A manifest that was edited by somebody who knows how to make its checksum.
std::string forged(const std::function<void(Json&)>& edit) {
  Json json = parse_json(manifest_text(sample_manifest()), "M");
  json.erase("checksum");
  edit(json);
  std::string text = json.dump(2);
  text.resize(text.size() - 2);
  text += ",\n";
  return text + "  \"checksum\": \"" + checksum_of(text) + "\"\n}\n";
}

TEST(Manifest, RefusesWhatAForgerMayClaim) {
  EXPECT_NO_THROW(parse_manifest(forged([](Json&) {}), "M"));
  const auto refused = [](std::string_view words, const std::function<void(Json&)>& edit, ErrorCode code = ErrorCode::kBadInput) {
    SCOPED_TRACE(words);
    expect_error(code, words, [&] { parse_manifest(forged(edit), "M"); });
  };
  refused("tritllm-packed", [](Json& m) { m["format"] = "other"; });
  refused(
      "format_version 1, found 2", [](Json& m) { m["format_version"] = 2; }, ErrorCode::kUnsupported);
  refused("group_size", [](Json& m) { m["group_size"] = 32; });
  refused("fingerprint", [](Json& m) { m["fingerprint"] = "ABCDEF0123456789abcdef0123456789"; });
  refused("digest", [](Json& m) { m["source"]["digest"] = "0"; });
  refused("recipe", [](Json& m) { m.erase("recipe"); });
  refused("types", [](Json& m) { m["source"]["types"] = Json::array({1}); });
  refused("nominal_bits_per_weight", [](Json& m) { m["nominal_bits_per_weight"] = "1"; });
  refused("tensors", [](Json& m) { m["tensors"] = 3; });
  refused("listed twice", [](Json& m) { m["tensors"].push_back(m["tensors"][0]); });
  refused("listed twice", [](Json& m) { m["files"].push_back(m["files"][0]); });
  refused("unknown value 'eaten'", [](Json& m) { m["tensors"][0]["fate"] = "eaten"; });
  refused("unknown value 'boss'", [](Json& m) { m["files"][0]["role"] = "boss"; });
  refused("depth", [](Json& m) { m["tensors"][0]["depth"] = 5; });
  refused("depth", [](Json& m) { m["tensors"][0]["depth"] = 0; });
  refused("2^64", [](Json& m) { m["tensors"][0]["shape"] = {uint64_t{1} << 40, uint64_t{1} << 40}; });
  refused("2^48", [](Json& m) { m["tensors"][0]["shape"] = {uint64_t{1} << 30, uint64_t{1} << 30}; });
  refused("2^48", [](Json& m) { m["tensors"][0]["shape"] = {0, 16}; });
  refused("shape", [](Json& m) { m["tensors"][0]["shape"] = {-1, 16}; });
  refused("a type of safetensors", [](Json& m) { m["tensors"][2]["type"] = "F4"; });
  refused("not a stored tensor", [](Json& m) { m["tensors"][3]["tied_to"] = "nobody"; });
  refused("not a stored tensor", [](Json& m) { m["tensors"][3]["tied_to"] = m["tensors"][3]["name"]; });
  refused("not a stored tensor", [](Json& m) { m["tensors"][3]["shape"] = {1, 2, 3, 4, 5}; });
  refused("checksum", [](Json& m) { m["tensors"][2].erase("checksum"); });
  refused("level_histogram", [](Json& m) { m["tensors"][0]["level_histogram"] = {0.5}; });
  refused("sqnr_db", [](Json& m) { m["tensors"][0]["sqnr_db"] = "high"; });
  for (const char* const name : {"", "/etc/passwd", "../x", "a/../../x", "..", "a\\b"}) {
    refused("in this folder", [&](Json& m) { m["files"][0]["name"] = name; });
    refused("in this folder", [&](Json& m) { m["tensors"][0]["file"] = name; });
  }
  refused("in this folder", [](Json& m) { m["files"][0]["name"] = std::string("a\0b", 3); });
  refused("in this folder", [](Json& m) { m["files"][0]["name"] = std::string(256, 'a'); });
  const Json part{{"index", 1}, {"count", 2}, {"tensors", 9}, {"positions", {1, 2, 3, 4}}};
  EXPECT_NO_THROW(parse_manifest(forged([&](Json& m) { m["part"] = part; }), "M"));
  refused("index", [&](Json& m) { (m["part"] = part)["index"] = 3; });
  refused("index", [&](Json& m) { (m["part"] = part)["index"] = 0; });
  refused("count", [&](Json& m) { (m["part"] = part)["count"] = 1000000; });
  refused("position", [&](Json& m) { (m["part"] = part)["positions"] = {1, 2, 3}; });
  refused("position", [&](Json& m) { (m["part"] = part)["positions"] = {1, 2, 2, 4}; });
  refused("position", [&](Json& m) { (m["part"] = part)["positions"] = {1, 2, 3, 9}; });
}

TEST(Manifest, BitsPerWeightCountTernaryMatricesTogether) {
  std::vector<TensorRecord> tensors = sample_manifest().tensors;
  tensors[1].shape = {10, 160};
  tensors[1].depth = 4;
  const BitsPerWeight bits = bits_per_weight(tensors);
  EXPECT_EQ(bits.ternary_weights, 240u + 1600u);
  EXPECT_NEAR(bits.nominal, (240 * 1.1875 + 1600 * 4.1875) * std::log2(3.0) / 1840, 1e-4);
  // 18 groups of 2 experts, a codebook each: 4 lines of 16 + 3 bytes; 100 groups: 20 lines of 4·16 + 3 bytes.
  EXPECT_NEAR(bits.stored, 8.0 * (4 * 19 + 2 * 108 + 20 * 67 + 108) / 1840, 1e-4);
  EXPECT_EQ(bits_per_weight({tensors[2]}).ternary_weights, 0u);
}

TEST(Manifest, SetTensorsReplacesAllThatFollowsFromThem) {
  Manifest manifest = sample_manifest();
  std::vector<TensorRecord> tensors = manifest.tensors;
  std::swap(tensors.front(), tensors.back());
  tensors.front().source_type = "F16";
  tensors.resize(tensors.size() - 1);
  const BitsPerWeight bits = bits_per_weight(tensors);
  const std::string digest = source_digest(tensors);
  set_tensors(manifest, tensors);
  EXPECT_EQ(manifest.tensors.size(), tensors.size());
  EXPECT_EQ(manifest.tensors.front().name, tensors.front().name);
  EXPECT_EQ(manifest.source_types, (std::vector<std::string>{"F16", "BF16", "I64"}));
  EXPECT_EQ(manifest.source_digest, digest);
  EXPECT_EQ(manifest.nominal_bits_per_weight, bits.nominal);
  EXPECT_EQ(manifest.stored_bits_per_weight, bits.stored);
}

TEST(Manifest, TheSourceDigestHangsOnEveryPart) {
  const std::vector<TensorRecord> tensors = sample_manifest().tensors;
  const std::string digest = source_digest(tensors);
  for (const std::function<void(TensorRecord&)>& change : std::vector<std::function<void(TensorRecord&)>>{
           [](TensorRecord& t) { t.name += "x"; }, [](TensorRecord& t) { t.shape.push_back(1); },
           [](TensorRecord& t) { t.source_type = "F16"; }, [](TensorRecord& t) { t.source_checksum[0] = 'f'; }}) {
    std::vector<TensorRecord> changed = tensors;
    change(changed[2]);
    EXPECT_NE(source_digest(changed), digest);
  }
  std::vector<TensorRecord> other_outcome = tensors;
  other_outcome[0].depth = 3;
  EXPECT_EQ(source_digest(other_outcome), digest) << "it tells about the source only";
}

TEST(ErrorStatsOf, AMatrixWithoutErrorHasNoSqnr) {
  codec::MatrixStats stats;
  stats.weight_energy = stats.product = stats.decoded_energy = 4;
  EXPECT_FALSE(error_stats(stats).sqnr_db.has_value());
  stats.error_energy = 0.04;
  EXPECT_EQ(error_stats(stats).sqnr_db, 20.0);
  EXPECT_EQ(error_stats(stats).relative_mse, 0.01);
}

}  // namespace
}  // namespace tritllm
