// Owns the cases of sampling/sampler_options.h: each range at its borders, and what the refusal says.
#include "sampling/sampler_options.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "core/error.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

constexpr size_t kVocabulary = 10;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNaN = std::nanf("");

TEST(SamplerOptions, DefaultsHold) { EXPECT_NO_THROW(validate(SamplerOptions{}, kVocabulary)); }

TEST(SamplerOptions, EveryNumberIsInTheTable) {
  // A new field changes the size, and belongs into the table as well.
  struct Copy {
    float reals[7];
    uint32_t counts[2];
    std::vector<LogitBias> biases;
    uint64_t seed;
  };
  static_assert(sizeof(Copy) == sizeof(SamplerOptions));
  EXPECT_EQ(sampler_fields().size(), 9u);
  std::set<std::string_view> names;
  for (const SamplerField& field : sampler_fields()) {
    names.insert(field.name);
    EXPECT_EQ(find_sampler_field(field.name), &field);
    EXPECT_FALSE(field.help.empty()) << field.name;
    EXPECT_GE(field.off, field.least) << field.name;
    EXPECT_LE(field.off, field.most) << field.name;
  }
  EXPECT_EQ(names.size(), sampler_fields().size());
}

TEST(SamplerOptions, DefaultsAreOffButForTheWindow) {
  for (const SamplerField& field : sampler_fields()) {
    if (field.name == "penalty_window") continue;
    EXPECT_EQ(sampler_value(SamplerOptions{}, field), field.off) << field.name;
  }
}

TEST(SamplerOptions, NamesMayHaveDashes) {
  EXPECT_EQ(find_sampler_field("top-k"), find_sampler_field("top_k"));
  EXPECT_EQ(find_sampler_field("temp")->name, "temperature");
  for (const char* const unknown : {"", "topk", "seed", "logit_bias", "Top_k"}) EXPECT_EQ(find_sampler_field(unknown), nullptr);
}

// The ranges are written out here once more: they are what users were told.
TEST(SamplerOptions, EachRangeHasItsBorders) {
  const std::map<std::string_view, std::pair<float, float>> ranges{{"temperature", {0, 100}},
                                                                   {"top_p", {0, 1}},
                                                                   {"min_p", {0, 1}},
                                                                   {"typical_p", {0, 1}},
                                                                   {"repeat_penalty", {0.01f, 100}},
                                                                   {"presence_penalty", {-100, 100}},
                                                                   {"frequency_penalty", {-100, 100}}};
  for (const SamplerField& field : sampler_fields()) {
    const auto* const member = std::get_if<float SamplerOptions::*>(&field.member);
    ASSERT_EQ(member != nullptr, ranges.contains(field.name)) << field.name;
    if (member == nullptr) continue;
    const auto [least, most] = ranges.at(field.name);
    for (const float good : {least, most}) {
      SamplerOptions options;
      options.** member = good;
      EXPECT_NO_THROW(validate(options, kVocabulary)) << field.name << " " << good;
    }
    for (const float bad :
         {std::nextafter(least, -kInfinity), std::nextafter(most, kInfinity), kNaN, kInfinity, -kInfinity, 3e38f, -3e38f}) {
      SamplerOptions options;
      options.** member = bad;
      expect_error(ErrorCode::kUsage, std::string(field.name) + ": expected a number from",
                   [&] { validate(options, kVocabulary); });
    }
  }
}

TEST(SamplerOptions, TextsBecomeValuesAndBack) {
  const std::map<std::string_view, std::vector<std::string>> texts{{"temperature", {"0", "0.8", "100"}},
                                                                   {"top_k", {"0", "40", "4294967295"}},
                                                                   {"repeat_penalty", {"0.01", "1.1"}},
                                                                   {"presence_penalty", {"-100", "-0.5"}}};
  for (const auto& [name, values] : texts) {
    for (const std::string& text : values) {
      SamplerOptions options;
      set_sampler_value(options, *find_sampler_field(name), text);
      EXPECT_EQ(sampler_value_text(options, *find_sampler_field(name)), text);
      EXPECT_NO_THROW(validate(options, kVocabulary)) << name << " " << text;
    }
  }
}

TEST(SamplerOptions, TextsThatAreNoValueChangeNothing) {
  for (const SamplerField& field : sampler_fields()) {
    for (const char* const bad : {"", " 1", "1 ", "hot", "nan", "inf", "-inf", "1e99", "-101", "4294967296", "0x1", "--1", "1,5"}) {
      SamplerOptions options;
      expect_error(ErrorCode::kUsage, std::string(field.name) + ": expected a ", [&] { set_sampler_value(options, field, bad); });
      EXPECT_EQ(sampler_value_text(options, field), sampler_value_text(SamplerOptions{}, field)) << field.name << " " << bad;
    }
  }
  SamplerOptions options;
  expect_error(ErrorCode::kUsage, "top_k: expected a whole number from 0 to 4294967295, found '1.5'",
               [&] { set_sampler_value(options, *find_sampler_field("top_k"), "1.5"); });
}

TEST(SamplerOptions, JsonHoldsWhatRepeatsAnAnswer) {
  SamplerOptions options{.temperature = 0.8f, .top_k = 40, .logit_bias = {{7, -kInfinity}, {9, 1.5f}}};
  const Json json = to_json(options);
  for (const SamplerField& field : sampler_fields()) {
    SamplerOptions read;
    set_sampler_value(read, field, json.at(std::string(field.name)).dump());
    EXPECT_EQ(sampler_value(read, field), sampler_value(options, field)) << field.name;
  }
  EXPECT_EQ(json.at("temperature").dump(), "0.8");
  EXPECT_EQ(json.at("logit_bias").dump(), R"({"7":-1000000000.0,"9":1.5})");
  EXPECT_FALSE(to_json(SamplerOptions{}).contains("logit_bias"));
}

// docs/cli.md has a row for each field, with its range and the value that turns it off.
TEST(SamplerOptions, TheDocumentationIsTheTable) {
  std::ifstream file(TRITLLM_SOURCE_DIR "/docs/cli.md");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  for (const SamplerField& field : sampler_fields()) {
    std::string flag(field.name);
    std::ranges::replace(flag, '_', '-');
    const std::string range =
        field.most > 1e9 ? fmt::format("{} or more", field.least) : fmt::format("{} to {}", field.least, field.most);
    const std::string row = fmt::format("| `--{}` | {} | {} | {} |\n", flag, range, field.off, field.help);
    EXPECT_NE(text.find(row), text.npos) << row;
  }
}

TEST(SamplerOptions, ARefusalNamesRangeAndValue) {
  SamplerOptions options;
  options.top_p = 1.5f;
  expect_error(ErrorCode::kUsage, "top_p: expected a number from 0 to 1, found 1.5", [&] { validate(options, kVocabulary); });
  options.top_p = kNaN;
  expect_error(ErrorCode::kUsage, "top_p: expected a number from 0 to 1, found nan", [&] { validate(options, kVocabulary); });
}

TEST(SamplerOptions, AnyWindowTopKAndSeedHold) {
  SamplerOptions options;
  options.top_k = options.penalty_window = 0xffffffff;
  options.seed = 0xffffffffffffffff;
  EXPECT_NO_THROW(validate(options, kVocabulary));
}

TEST(SamplerOptions, BiasesAreFiniteOrBan) {
  for (const float good : {-kInfinity, -1e9f, 0.0f, 1e9f}) {
    EXPECT_NO_THROW(validate(SamplerOptions{.logit_bias = {{9, good}}}, kVocabulary)) << good;
  }
  for (const float bad : {kInfinity, kNaN, 1.1e9f, -1.1e9f}) {
    expect_error(ErrorCode::kUsage, "logit_bias: expected a number from -1000000000 to 1000000000 or minus infinity for token 9",
                 [&] {
                   validate(SamplerOptions{.logit_bias = {{9, bad}}}, kVocabulary);
                 });
  }
}

TEST(SamplerOptions, BiasedTokensAreKnownAndDistinct) {
  expect_error(ErrorCode::kUsage, "logit_bias: expected a token below the vocabulary's size of 10, found 10", [] {
    validate(SamplerOptions{.logit_bias = {{10, 1}}}, kVocabulary);
  });
  expect_error(ErrorCode::kUsage, "found token 3 twice", [] {
    validate(SamplerOptions{.logit_bias = {{3, 1}, {5, 1}, {3, 2}}}, kVocabulary);
  });
}

}  // namespace
}  // namespace tritllm
