// Recipe exact: what was ternary is found again from its rounded values, whatever the codebook, and everything else is refused.
#include "codec/exact_form.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "codec/decoder.h"
#include "codec/quantizer.h"
#include "core/half.h"
#include "core/thread_pool.h"
#include "kernels/kernel_table.h"
#include "support/matrices.h"
#include "support/quantized.h"

namespace tritllm {
namespace {

using codec::Codebook;
using codec::ExactForm;
using codec::ExactResult;
using codec::kGroupSize;
using codec::MatrixShape;
using codec::Rounding;

constexpr int kRepetitions = 3;
constexpr Rounding kHalfOnly[] = {Rounding::kHalf};

// Reads a matrix in memory in stripes, in a random order where seed is not 0.
codec::VisitStripes visit_of(const std::vector<float>& weights, MatrixShape shape, uint64_t seed = 0) {
  return [&weights, shape, seed](const auto& wanted, const auto& body) {
    const codec::Stripes stripes(shape);
    for (const size_t i : visiting_order(stripes.size(), seed)) {
      if (!wanted(i)) continue;
      const codec::Stripe stripe = stripes[i];
      std::vector<float> padded(stripe.padded_groups() * kGroupSize);
      codec::pad_groups(shape, stripe.first_group, stripe.padded_groups(),
                        weights.data() + codec::weights_in_groups(shape, stripe.first_group, 1).first, padded.data());
      body(i, padded.data());
    }
  };
}

// The FP16 values that the packed form gives back.
std::vector<float> decoded(const ExactForm& form, const std::vector<float>& weights, MatrixShape shape, bool as_half = true) {
  codec::MatrixQuantizer quantizer(form, shape, codec::scalar_group_kernels());
  std::vector<float> result(weights.size());
  visit_of(weights, shape)([](size_t) { return true; },
                           [&](size_t index, const float* groups) {
                             codec::EncodedStripe encoded;
                             quantizer.encode(index, groups, encoded);
                             const codec::Stripe stripe = quantizer.stripes()[index];
                             std::vector<float> padded(stripe.groups * kGroupSize);
                             codec::for_codebooks(
                                 shape, stripe.first_group, stripe.groups, [&](size_t book, uint64_t first, size_t n) {
                                   const size_t offset = first - stripe.first_group;
                                   codec::FloatDecoder(form.codebooks[book], form.depth)
                                       .decode(encoded.codes.data() + offset * kGroupSize, encoded.scale_codes.data() + offset, n,
                                               padded.data() + offset * kGroupSize);
                                 });
                             codec::strip_padding(shape, stripe.first_group, stripe.groups, padded.data(),
                                                  result.data() + codec::weights_in_groups(shape, stripe.first_group, 1).first);
                           });
  if (as_half) {
    for (float& value : result) value = float_from_half(half_from_float(value));
  }
  return result;
}

// Some codec's matrix: `scales` used with these chances, codes with these, FP16 rounding of q·s/H.
struct Recipe {
  int depth = 2;
  double zeros = 0.1;         // chance of a code 0
  double zero_groups = 0.02;  // chance of a group of them
  double levels = 1.0;        // share of the levels that groups use
  double spread = 3.0;        // of the scales, in powers of e
  size_t scales = 27;
  bool other_order = false;  // (q·s)/H in place of q·(s/H)
};

std::vector<float> ternary_matrix(const Recipe& recipe, MatrixShape shape, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> unit;
  std::vector<float> scales;
  for (size_t i = 0; i < recipe.scales; ++i) scales.push_back(static_cast<float>(0.5 * std::exp(-recipe.spread * unit(engine))));
  const int most = codec::largest_code(recipe.depth);
  std::uniform_int_distribution<int> codes(1, most), pick(0, 1);
  std::vector<float> weights(shape.weights());
  for (uint64_t g = 0; g < shape.groups(); ++g) {
    const codec::WeightRange range = codec::weights_in_groups(shape, g, 1);
    if (unit(engine) < recipe.zero_groups) continue;
    // The first scales are common; the last ones occur once or never.
    const double place = unit(engine);
    const float scale = scales[static_cast<size_t>(place * place * static_cast<double>(recipe.scales))];
    for (uint64_t i = range.first; i < range.first + range.count; ++i) {
      if (unit(engine) < recipe.zeros) continue;
      int code = codes(engine);
      if (unit(engine) > recipe.levels) code = most;
      if (pick(engine) == 0) code = -code;
      const auto steps = static_cast<float>(most);
      const float weight =
          recipe.other_order ? static_cast<float>(code) * scale / steps : static_cast<float>(code) * (scale / steps);
      weights[i] = float_from_half(half_from_float(weight));
    }
  }
  return weights;
}

void expect_found(const std::vector<float>& weights, MatrixShape shape, int most_depth, const std::string& label) {
  SCOPED_TRACE(label);
  const ExactResult result = codec::find_exact_form(shape, codec::kMaxDepth, kHalfOnly, visit_of(weights, shape));
  ASSERT_TRUE(result.form) << "group " << result.misfit.group << " lacks scales: " << result.misfit.lacks_scales << ", nearest "
                           << result.misfit.nearest.different;
  EXPECT_LE(result.form->depth, most_depth);
  EXPECT_EQ(decoded(*result.form, weights, shape), weights);
  for (const Codebook& codebook : result.form->codebooks) EXPECT_TRUE(std::is_sorted(codebook.begin(), codebook.end()));
}

TEST(ExactForm, RandomCodebooksAreRecovered) {
  uint64_t seed = 1;
  for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
    for (const double zeros : {0.0, 0.3, 0.7, 0.9}) {
      for (const double spread : {0.3, 3.0, 8.0}) {
        for (const bool other_order : {false, true}) {
          for (int repetition = 0; repetition < kRepetitions; ++repetition, ++seed) {
            const Recipe recipe{
                .depth = depth, .zeros = zeros, .levels = seed % 3 == 0 ? 0.3 : 1.0, .spread = spread, .other_order = other_order};
            const MatrixShape shape{37 + seed % 300, 16 + seed % 90};
            expect_found(ternary_matrix(recipe, shape, seed), shape, depth,
                         "depth " + std::to_string(depth) + " zeros " + std::to_string(zeros) + " spread " +
                             std::to_string(spread) + " seed " + std::to_string(seed));
          }
        }
      }
    }
  }
}

ExactResult find(const std::vector<float>& weights, MatrixShape shape, std::span<const Rounding> roundings = kHalfOnly,
                 uint64_t seed = 0, int most_depth = codec::kMaxDepth) {
  return codec::find_exact_form(shape, most_depth, roundings, visit_of(weights, shape, seed));
}

// Groups of a matrix of one row, with these codes of 16 and scales.
std::vector<float> row_of(const std::vector<std::pair<float, std::vector<int>>>& groups, int depth) {
  std::vector<float> weights;
  const auto most = static_cast<float>(codec::largest_code(depth));
  for (const auto& [scale, codes] : groups) {
    for (size_t i = 0; i < kGroupSize; ++i) {
      const float weight = static_cast<float>(codes[i % codes.size()]) * (scale / most);
      weights.push_back(float_from_half(half_from_float(weight)));
    }
  }
  return weights;
}

TEST(ExactForm, ScalesThatOccurOnceAreFound) {
  std::vector<std::pair<float, std::vector<int>>> groups(400, {0.1f, {40, -39, 37, 7, 0}});
  for (size_t i = 0; i < 26; ++i) groups[i * 15] = {0.11f + 0.003f * static_cast<float>(i), {40, -39, 31, 0, 3}};
  groups[7] = groups[100] = {1.0f, {0}};
  const std::vector<float> weights = row_of(groups, 4);
  const MatrixShape shape{1, weights.size()};
  expect_found(weights, shape, 4, "once");
  // One more is one too many, whether it can be seen early or not.
  for (const size_t place : {size_t{1}, size_t{399}}) {
    std::vector<std::pair<float, std::vector<int>>> more = groups;
    more[place] = {0.05f, {40, -39, 11}};
    const std::vector<float> too_many = row_of(more, 4);
    const ExactResult result = find(too_many, shape);
    ASSERT_FALSE(result.form);
    EXPECT_TRUE(result.misfit.lacks_scales);
    EXPECT_EQ(result.misfit.depth, 4);
    EXPECT_GT(result.misfit.nearest.different, 0u);
  }
}

TEST(ExactForm, GroupsOfFewLevelsTakeScalesThatOthersNeed) {
  // Each lone weight alone would fit four scales of depth 2, and the 27 leave no room for scales of their own.
  std::vector<std::pair<float, std::vector<int>>> groups;
  for (int i = 0; i < 27; ++i) {
    const float scale = 0.05f * std::pow(1.07f, static_cast<float>(i));
    groups.push_back({scale, {4, 3, 2, 1}});
    for (const int code : {1, 2, 3, 4}) groups.push_back({scale, {code, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}});
  }
  const std::vector<float> weights = row_of(groups, 2);
  expect_found(weights, {1, weights.size()}, 2, "lone weights");
  // The other way round: the lone weights come first.
  const std::vector<float> reversed(weights.rbegin(), weights.rend());
  expect_found(reversed, {1, reversed.size()}, 2, "lone weights first");
}

TEST(ExactForm, TheSmallestDepthIsTaken) {
  EXPECT_EQ(find(row_of({{0.3f, {13, 0, -13}}}, 3), {1, 16}).form->depth, 1);
  EXPECT_EQ(find(row_of({{0.3f, {40, -30, 10, 20}}}, 4), {1, 16}).form->depth, 2);
  EXPECT_EQ(find(row_of({{0.3f, {40, -39, 7, 20}}}, 4), {1, 16}).form->depth, 4);
  const ExactResult zeros = find(std::vector<float>(40), {2, 20});
  ASSERT_TRUE(zeros.form);
  EXPECT_EQ(zeros.form->depth, 1);
  EXPECT_EQ(zeros.form->codebooks.front(), Codebook{});
}

TEST(ExactForm, OneWeightThatDoesNotFitIsNamed) {
  const MatrixShape shape{300, 100};
  std::vector<float> weights = ternary_matrix({.depth = 2, .zeros = 0.0, .zero_groups = 0.0}, shape, 5);
  const uint64_t group = 1234, first = codec::weights_in_groups(shape, group, 1).first;
  const float stored = weights[first + 2];
  // By the last bit of FP16 but three, which no rounding explains.
  weights[first + 2] = float_from_half(static_cast<uint16_t>(half_from_float(stored) ^ 8u));
  const ExactResult result = find(weights, shape);
  ASSERT_FALSE(result.form);
  EXPECT_FALSE(result.misfit.lacks_scales);
  EXPECT_EQ(result.misfit.group, group);
  EXPECT_EQ(result.misfit.depth, 4);
  EXPECT_EQ(result.misfit.nearest.stored, weights[first + 2]);
  EXPECT_EQ(result.misfit.nearest.different, 1u);
}

TEST(ExactForm, OrdinaryWeightsAreRefusedAtTheFirstGroup) {
  const MatrixShape shape{64, 64};
  std::vector<float> weights = random_matrix(Distribution::kGauss, shape.rows, shape.columns, 2);
  for (float& weight : weights) weight = float_from_half(half_from_float(weight));
  const ExactResult result = find(weights, shape);
  ASSERT_FALSE(result.form);
  EXPECT_EQ(result.misfit.group, 0u);
}

TEST(ExactForm, OrderOfStripesDoesNotMatter) {
  const MatrixShape shape{2000, 60};
  const std::vector<float> weights = ternary_matrix({.depth = 3}, shape, 8);
  const ExactResult plain = find(weights, shape);
  ASSERT_TRUE(plain.form);
  for (const uint64_t seed : {1u, 2u, 3u}) {
    const ExactResult other = find(weights, shape, kHalfOnly, seed);
    ASSERT_TRUE(other.form);
    EXPECT_EQ(other.form->codebooks, plain.form->codebooks);
  }
}

TEST(ExactForm, EachExpertHasItsCodebook) {
  const MatrixShape expert{21, 50};
  std::vector<float> weights;
  for (uint64_t i = 0; i < 3; ++i) {
    const std::vector<float> one = ternary_matrix({.depth = 2, .scales = 20}, expert, 70 + i);
    weights.insert(weights.end(), one.begin(), one.end());
  }
  const MatrixShape stack{63, 50, 3};
  expect_found(weights, stack, 2, "stack");
  EXPECT_EQ(find(weights, stack).form->codebooks.size(), 3u);
  EXPECT_FALSE(find(weights, {63, 50}).form) << "60 scales in one matrix";
}

TEST(ExactForm, FP16sSmallestNumbersAreGivenBack) {
  for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
    std::vector<std::pair<float, std::vector<int>>> groups;
    for (const float scale : {1e-6f, 3e-6f, 2.5e-5f, 60000.0f}) {
      std::vector<int> codes;
      for (int i = 0; i < 16; ++i) codes.push_back((i * 7 + 1) % (2 * codec::largest_code(depth) + 1) - codec::largest_code(depth));
      groups.push_back({scale, codes});
    }
    std::vector<float> weights = row_of(groups, depth);
    for (float& weight : weights) weight += 0.0f;  // negative underflow is -0
    expect_found(weights, {1, weights.size()}, depth, "depth " + std::to_string(depth));
  }
}

TEST(ExactForm, NegativeZerosAreCounted) {
  std::vector<float> weights = row_of({{0.3f, {1, 0, -1}}}, 1);
  weights[1] = weights[4] = -0.0f;
  const ExactResult result = find(weights, {1, 16});
  ASSERT_TRUE(result.form);
  EXPECT_EQ(result.form->negative_zeros, 2u);
  EXPECT_EQ(decoded(*result.form, weights, {1, 16}), weights);  // -0 == 0
}

TEST(ExactForm, WeightsThatWentThroughBF16OrNoRounding) {
  constexpr Rounding kOfBfloat16[] = {Rounding::kHalfThenBfloat16, Rounding::kBfloat16};
  constexpr Rounding kOfFloat[] = {Rounding::kHalf, Rounding::kNone};
  const MatrixShape shape{40, 64};
  for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
    SCOPED_TRACE(depth);
    std::vector<float> weights = ternary_matrix({.depth = depth, .scales = 9}, shape, 90);
    for (float& weight : weights) weight = float_from_bfloat16(bfloat16_from_float(weight));
    const ExactResult result = find(weights, shape, kOfBfloat16);
    ASSERT_TRUE(result.form) << result.misfit.group << result.misfit.lacks_scales << result.misfit.nearest.scale;
    std::vector<float> again = decoded(*result.form, weights, shape);
    for (float& weight : again) weight = float_from_bfloat16(bfloat16_from_float(weight));
    EXPECT_EQ(again, weights);
  }
  // Models that are ternary by birth: one scale, which no rounding to 16 bits keeps.
  std::vector<float> born(shape.weights());
  for (size_t i = 0; i < born.size(); ++i) born[i] = 0.0123456789f * static_cast<float>(static_cast<int>(i * i % 7 % 3) - 1);
  const ExactResult result = find(born, shape, kOfFloat);
  ASSERT_TRUE(result.form);
  EXPECT_EQ(result.form->depth, 1);
  EXPECT_EQ(result.form->rounding, Rounding::kNone);
  EXPECT_EQ(decoded(*result.form, born, shape, /*as_half=*/false), born);
}

TEST(FittingScales, AreExactlyThoseThatGiveTheGroupBack) {
  // Every float32 around the ends of each range, decoded.
  const auto bits = [](float value) { return std::bit_cast<uint32_t>(value); };
  for (const int most : {1, 4, 13, 40}) {
    for (const Rounding rounding : {Rounding::kHalf, Rounding::kBfloat16, Rounding::kHalfThenBfloat16, Rounding::kNone}) {
      for (const float scale : {0.0371f, 2e-6f, 1234.5f}) {
        std::vector<float> group;
        for (int i = 0; i < 16; ++i) group.push_back(codec::decoded_weight(i * 7 % (most + 1), scale, most, rounding));
        const codec::ScaleSet set = codec::fitting_scales(group, most, rounding);
        const auto gives_back = [&](uint32_t candidate) {
          return std::ranges::all_of(group, [&](float weight) {
            for (int code = 0; code <= most; ++code) {
              if (codec::decoded_weight(code, std::bit_cast<float>(candidate), most, rounding) == weight) return true;
            }
            return false;
          });
        };
        const auto is_in_set = [&](uint32_t candidate) {
          return std::ranges::any_of(
              set, [&](const codec::ScaleRange& range) { return range.least <= candidate && candidate <= range.most; });
        };
        EXPECT_TRUE(is_in_set(bits(scale))) << most << " " << scale;
        for (const codec::ScaleRange& range : set) {
          for (const uint32_t end : {range.least, range.most}) {
            for (uint32_t candidate = end - 3; candidate <= std::min(end + 3, bits(kLargestHalf)); ++candidate) {
              EXPECT_EQ(gives_back(candidate), is_in_set(candidate)) << most << " " << scale << " " << candidate;
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tritllm
