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

constexpr int REPETITIONS = 40;
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
    for (const double zeros : {0.0, 0.3, 0.7, 0.9, 0.97}) {
      for (const double spread : {0.3, 3.0, 8.0}) {
        for (const bool other_order : {false, true}) {
          for (int repetition = 0; repetition < REPETITIONS; ++repetition, ++seed) {
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

}  // namespace
}  // namespace tritllm
