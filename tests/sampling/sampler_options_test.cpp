// Owns the cases of sampling/sampler_options.h: each range at its borders, and what the refusal says.
#include "sampling/sampler_options.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

constexpr size_t kVocabulary = 10;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNaN = std::nanf("");

struct Range {
  const char* name;
  float SamplerOptions::*field;
  float least, most;
};

const Range kRanges[] = {
    {"temperature", &SamplerOptions::temperature, 0, 100},
    {"top_p", &SamplerOptions::top_p, 0, 1},
    {"min_p", &SamplerOptions::min_p, 0, 1},
    {"typical_p", &SamplerOptions::typical_p, 0, 1},
    {"repeat_penalty", &SamplerOptions::repeat_penalty, 0.01f, 100},
    {"presence_penalty", &SamplerOptions::presence_penalty, -100, 100},
    {"frequency_penalty", &SamplerOptions::frequency_penalty, -100, 100},
};

TEST(SamplerOptions, DefaultsHold) { EXPECT_NO_THROW(validate(SamplerOptions{}, kVocabulary)); }

TEST(SamplerOptions, EachRangeHasItsBorders) {
  for (const Range& range : kRanges) {
    for (const float good : {range.least, range.most}) {
      SamplerOptions options;
      options.*range.field = good;
      EXPECT_NO_THROW(validate(options, kVocabulary)) << range.name << " " << good;
    }
    for (const float bad : {std::nextafter(range.least, -kInfinity), std::nextafter(range.most, kInfinity), kNaN, kInfinity,
                            -kInfinity, 3e38f, -3e38f}) {
      SamplerOptions options;
      options.*range.field = bad;
      expect_error(ErrorCode::kUsage, std::string(range.name) + ": expected a number from",
                   [&] { validate(options, kVocabulary); });
    }
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
