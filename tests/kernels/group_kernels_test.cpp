// Every operation of every instruction set against the scalar specification, bit for bit: each number of groups that leaves part of
// a vector unused, at every depth, on ordinary and on extreme weights, with and without an importance of the columns. Inputs are as
// large as promised and not a byte more, so that the address sanitizer sees reading too far; the bytes behind each output must stay
// as they were.
#include "codec/group_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "codec/codebook.h"
#include "codec/geometry.h"
#include "codec/quantizer.h"
#include "kernels/every_table.h"

namespace tritllm::kernels {
namespace {

using codec::Codebook;
using codec::GroupKernels;
using codec::kGroupSize;

constexpr size_t kMostGroups = 40;
constexpr size_t kGuardBytes = 64;

// An output with bytes behind it that nobody may touch.
template <typename Value>
class Guarded {
 public:
  explicit Guarded(size_t count) : count_(count), bytes_(count * sizeof(Value) + kGuardBytes, 0xa5) {}

  Value* data() { return reinterpret_cast<Value*>(bytes_.data()); }
  bool operator==(const Guarded& other) const { return bytes_ == other.bytes_; }
  bool intact() const {
    return std::all_of(bytes_.end() - kGuardBytes, bytes_.end(), [](uint8_t byte) { return byte == 0xa5; });
  }
  size_t size() const { return count_; }

 private:
  size_t count_;
  std::vector<uint8_t> bytes_;
};

using Fill = void (*)(std::mt19937_64& engine, float* group);

float gauss(std::mt19937_64& engine) { return std::normal_distribution<float>()(engine); }

float signed_as_gauss(std::mt19937_64& engine, float magnitude) { return std::copysign(magnitude, gauss(engine)); }

struct Kind {
  const char* name;
  Fill fill;
};

const Kind kKinds[] = {
    {"gauss",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i) group[i] = 0.02f * gauss(engine);
     }},
    {"zeros",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i) group[i] = signed_as_gauss(engine, 0.0f);
     }},
    {"negative zeros and weights",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i) group[i] = engine() % 2 ? -0.0f : gauss(engine);
     }},
    {"one spike",
     [](auto& engine, float* group) {
       std::fill_n(group, kGroupSize, 0.0f);
       group[engine() % kGroupSize] = signed_as_gauss(engine, 3000.0f);
     }},
    {"one spike among small weights",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i) group[i] = 1e-6f * gauss(engine);
       group[engine() % kGroupSize] = signed_as_gauss(engine, 65504.0f);
     }},
    {"equal magnitudes",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i) group[i] = signed_as_gauss(engine, 0.0123f);
     }},
    {"few magnitudes",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i) group[i] = std::nearbyint(gauss(engine) * 4.0f) / 64.0f;
     }},
    {"subnormals",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i) group[i] = std::bit_cast<float>(static_cast<uint32_t>(engine() & 0x807fffff));
     }},
    {"any exponent",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i) group[i] = std::ldexp(gauss(engine), -static_cast<int>(engine() % 150));
     }},
    {"near the zero group",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i) group[i] = std::ldexp(gauss(engine), -38 - static_cast<int>(engine() % 5));
     }},
    {"just a zero group and just not",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i)
         group[i] = signed_as_gauss(engine, engine() % 64 == 0 ? 0x1p-40f : std::nextafter(0x1p-40f, 0.0f));
     }},
    {"largest",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i) group[i] = signed_as_gauss(engine, 65504.0f);
     }},
    {"largest and others",
     [](auto& engine, float* group) {
       for (size_t i = 0; i < kGroupSize; ++i)
         group[i] = signed_as_gauss(engine, engine() % 2 ? 65504.0f : 65504.0f * static_cast<float>(engine() % 1000) / 999.0f);
     }},
};

// Groups of one kind, or of all kinds mixed, so that lanes of one vector go different ways.
std::unique_ptr<float[]> make_groups(size_t kind, size_t groups, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::unique_ptr<float[]> weights(new float[groups * kGroupSize]);
  for (size_t g = 0; g < groups; ++g) {
    const size_t chosen = kind < std::size(kKinds) ? kind : engine() % std::size(kKinds);
    kKinds[chosen].fill(engine, weights.get() + g * kGroupSize);
  }
  return weights;
}

// What is known about the columns, as a calibration may find it: nothing, the same everywhere, ordinary spreads, the bounds of
// ColumnStatistics, and columns that count nothing.
constexpr const char* kImportances[] = {"no importance", "importance 1", "ordinary importance", "importance at its bounds",
                                        "importance with zeros"};

// nullptr for "no importance".
std::unique_ptr<float[]> make_importance(size_t kind, size_t groups) {
  if (kind == 0) return nullptr;
  std::mt19937_64 engine(kind * 1000 + groups);
  std::unique_ptr<float[]> importance(new float[groups * kGroupSize]);
  for (size_t i = 0; i < groups * kGroupSize; ++i) {
    const float ordinary = std::exp(1.5f * gauss(engine));
    const float choices[] = {1.0f, ordinary, engine() % 2 ? codec::kLeastImportance : codec::kMostImportance,
                             engine() % 3 == 0 ? 0.0f : ordinary};
    importance[i] = choices[kind - 1];
  }
  return importance;
}

// Codebooks as the recipes may make them: near the weights, very wide, with zeros in front, all alike.
std::vector<Codebook> codebooks() {
  Codebook zeros_first = codec::geometric_codebook(1e-3f, 2.0f);
  std::fill_n(zeros_first.begin(), 5, 0.0f);
  return {codec::geometric_codebook(0.004f, 0.08f), codec::geometric_codebook(0x1p-40f, 65504.0f), zeros_first,
          codec::geometric_codebook(65504.0f, 65504.0f)};
}

class GroupKernelsOf : public testing::TestWithParam<KernelTable> {
 protected:
  // Calls body(groups, weights) for every number of groups and every kind of weights.
  template <typename Body>
  void for_all_weights(Body&& body) {
    for (size_t kind = 0; kind <= std::size(kKinds); ++kind) {
      SCOPED_TRACE(kind < std::size(kKinds) ? kKinds[kind].name : "all kinds mixed");
      for (size_t groups = 1; groups <= kMostGroups; ++groups) {
        SCOPED_TRACE(testing::Message() << groups << " groups");
        body(groups, make_groups(kind, groups, 100 * kind + groups).get());
        if (HasFailure()) return;
      }
    }
  }
  template <typename Body>
  void for_all_weights_and_depths(Body&& body) {
    for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
      SCOPED_TRACE(testing::Message() << "depth " << depth);
      for_all_weights([&](size_t groups, const float* weights) { body(groups, weights, codec::largest_code(depth)); });
    }
  }

  // Calls body(groups, weights, importance, largest_code) for all weights without an importance, and with every kind of importance
  // for weights of all kinds mixed.
  template <typename Body>
  void for_all_importances(Body&& body) {
    for_all_weights_and_depths(
        [&](size_t groups, const float* weights, int largest_code) { body(groups, weights, nullptr, largest_code); });
    for (size_t kind = 1; kind < std::size(kImportances); ++kind) {
      SCOPED_TRACE(kImportances[kind]);
      for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
        for (size_t groups = 1; groups <= kMostGroups; ++groups) {
          SCOPED_TRACE(testing::Message() << groups << " groups at depth " << depth);
          const auto weights = make_groups(std::size(kKinds), groups, 7000 + groups);
          body(groups, weights.get(), make_importance(kind, groups).get(), codec::largest_code(depth));
        }
      }
    }
  }

  const GroupKernels& tested_ = *GetParam().groups;
  const GroupKernels& scalar_ = codec::scalar_group_kernels();
};
INSTANTIATE_TEST_SUITE_P(InstructionSets, GroupKernelsOf, every_table(), table_name);

TEST_P(GroupKernelsOf, Magnitudes) {
  for_all_weights([&](size_t groups, const float* weights) {
    Guarded<float> expected(groups), found(groups);
    scalar_.magnitudes(weights, groups, expected.data());
    tested_.magnitudes(weights, groups, found.data());
    EXPECT_TRUE(found == expected);
  });
}

TEST_P(GroupKernelsOf, CandidateScales) {
  for_all_weights_and_depths([&](size_t groups, const float* weights, int largest_code) {
    Guarded<float> expected(groups), found(groups);
    scalar_.candidate_scales(weights, groups, largest_code, expected.data());
    tested_.candidate_scales(weights, groups, largest_code, found.data());
    EXPECT_TRUE(found == expected);
  });
}

TEST_P(GroupKernelsOf, NearestScaleCodes) {
  std::mt19937_64 engine(1);
  for (const Codebook& codebook : codebooks()) {
    const auto thresholds = codec::nearest_thresholds(codebook);
    for (size_t groups = 1; groups <= kMostGroups; ++groups) {
      std::unique_ptr<float[]> scales(new float[groups]);
      for (size_t g = 0; g < groups; ++g) {
        // On, just above and just below a threshold; zero; anything between.
        const float threshold = thresholds[engine() % thresholds.size()];
        const float choices[] = {threshold, std::nextafter(threshold, 1e9f), std::nextafter(threshold, 0.0f), 0.0f,
                                 codebook[engine() % 27] * 1.01f};
        scales[g] = choices[engine() % std::size(choices)];
      }
      Guarded<uint8_t> expected(groups), found(groups);
      scalar_.nearest_scale_codes(scales.get(), groups, thresholds.data(), expected.data());
      tested_.nearest_scale_codes(scales.get(), groups, thresholds.data(), found.data());
      EXPECT_TRUE(found == expected) << groups << " groups";
    }
  }
}

TEST_P(GroupKernelsOf, BestSteps) {
  for_all_importances([&](size_t groups, const float* weights, const float* importance, int largest_code) {
    Guarded<float> expected_steps(groups), expected_curvatures(groups), steps(groups), curvatures(groups);
    scalar_.best_steps(weights, importance, groups, largest_code, expected_steps.data(), expected_curvatures.data());
    tested_.best_steps(weights, importance, groups, largest_code, steps.data(), curvatures.data());
    EXPECT_TRUE(steps == expected_steps);
    EXPECT_TRUE(curvatures == expected_curvatures);
  });
}

TEST_P(GroupKernelsOf, BestScaleCodes) {
  for (const Codebook& codebook : codebooks()) {
    for_all_importances([&](size_t groups, const float* weights, const float* importance, int largest_code) {
      Guarded<uint8_t> expected(groups), found(groups);
      scalar_.best_scale_codes(weights, importance, groups, largest_code, codebook.data(), expected.data());
      tested_.best_scale_codes(weights, importance, groups, largest_code, codebook.data(), found.data());
      EXPECT_TRUE(found == expected);
    });
  }
}

// Any entry for each group, but not one that is 0 where the group is not: no recipe gives it.
std::unique_ptr<uint8_t[]> random_scale_codes(const float* weights, size_t groups, const Codebook& codebook) {
  std::mt19937_64 engine(groups);
  std::unique_ptr<uint8_t[]> scale_codes(new uint8_t[groups]);
  Guarded<float> magnitudes(groups);
  codec::scalar_group_kernels().magnitudes(weights, groups, magnitudes.data());
  for (size_t g = 0; g < groups; ++g) {
    const bool zero = magnitudes.data()[g] < codec::kSmallestScale;
    do {
      scale_codes[g] = zero ? uint8_t{0} : static_cast<uint8_t>(engine() % codec::kCodebookSize);
    } while (!zero && codebook[scale_codes[g]] == 0.0f);
  }
  return scale_codes;
}

TEST_P(GroupKernelsOf, StepSums) {
  for (const Codebook& codebook : codebooks()) {
    if (codebook[0] == 0.0f) continue;  // the sample holds no zero groups
    for_all_importances([&](size_t groups, const float* weights, const float* importance, int largest_code) {
      const auto scale_codes = random_scale_codes(weights, groups, codebook);
      Guarded<float> expected_numerators(groups), expected_denominators(groups), numerators(groups), denominators(groups);
      scalar_.step_sums(weights, importance, groups, largest_code, codebook.data(), scale_codes.get(), expected_numerators.data(),
                        expected_denominators.data());
      tested_.step_sums(weights, importance, groups, largest_code, codebook.data(), scale_codes.get(), numerators.data(),
                        denominators.data());
      EXPECT_TRUE(numerators == expected_numerators);
      EXPECT_TRUE(denominators == expected_denominators);
    });
  }
}

struct Encoded {
  explicit Encoded(size_t groups)
      : codes(groups * kGroupSize),
        weight_energy(groups),
        error_energy(groups),
        product(groups),
        decoded_energy(groups),
        largest_error(groups),
        clipped(groups) {}
  Guarded<int8_t> codes;
  Guarded<float> weight_energy, error_energy, product, decoded_energy, largest_error, clipped;
  codec::GroupStats stats() {
    return {weight_energy.data(), error_energy.data(), product.data(), decoded_energy.data(), largest_error.data(), clipped.data()};
  }
};

TEST_P(GroupKernelsOf, Encode) {
  for (const Codebook& codebook : codebooks()) {
    for_all_weights_and_depths([&](size_t groups, const float* weights, int largest_code) {
      const auto scale_codes = random_scale_codes(weights, groups, codebook);
      Encoded expected(groups), found(groups);
      scalar_.encode(weights, groups, largest_code, codebook.data(), scale_codes.get(), expected.codes.data(), expected.stats());
      tested_.encode(weights, groups, largest_code, codebook.data(), scale_codes.get(), found.codes.data(), found.stats());
      EXPECT_TRUE(found.codes == expected.codes);
      EXPECT_TRUE(found.weight_energy == expected.weight_energy);
      EXPECT_TRUE(found.error_energy == expected.error_energy);
      EXPECT_TRUE(found.product == expected.product);
      EXPECT_TRUE(found.decoded_energy == expected.decoded_energy);
      EXPECT_TRUE(found.largest_error == expected.largest_error);
      EXPECT_TRUE(found.clipped == expected.clipped);
      EXPECT_TRUE(expected.codes.intact() && expected.clipped.intact()) << "the specification writes too far";
    });
  }
}

// Feedback and variances as moments of inputs may give them; targets are the weights.
struct Feedback {
  std::array<float, kGroupSize * kGroupSize> feedback{};
  std::array<float, kGroupSize> variances{};

  explicit Feedback(uint64_t seed) {
    std::mt19937_64 engine(seed);
    for (float& value : feedback) value = 0.3f * gauss(engine);
    for (float& value : variances) value = std::exp(2.0f * gauss(engine));
  }
};

TEST_P(GroupKernelsOf, RoundsWithFeedbackAsTheSpecificationDoes) {
  for (const Codebook& codebook : codebooks()) {
    for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
      for (size_t rows = 1; rows <= kMostGroups; ++rows) {
        SCOPED_TRACE(testing::Message() << rows << " rows at depth " << depth);
        const auto first = make_groups(0, rows, rows), second = make_groups(std::size(kKinds), rows, 31 * rows);
        struct Out {
          Guarded<int8_t> codes;
          Guarded<uint8_t> scale_codes;
          Guarded<float> decoded, errors;
          explicit Out(size_t n) : codes(n * kGroupSize), scale_codes(n), decoded(n * kGroupSize), errors(n * kGroupSize) {}
          codec::RoundedGroup view(bool is_rounded) {
            return {codes.data(), scale_codes.data(), decoded.data(), errors.data(), is_rounded};
          }
        };
        Out expected(rows), found(rows);
        const Feedback feedback(rows);
        const codec::FeedbackGroup group{feedback.feedback.data(), feedback.variances.data(), codebook.data(),
                                         codec::largest_code(depth)};
        // Twice, the second time beside what the first has left.
        for (const bool is_rounded : {false, true}) {
          const float* const targets = is_rounded ? second.get() : first.get();
          scalar_.round_with_feedback(group, targets, rows, expected.view(is_rounded));
          tested_.round_with_feedback(group, targets, rows, found.view(is_rounded));
          ASSERT_EQ(found.codes, expected.codes);
          ASSERT_EQ(found.scale_codes, expected.scale_codes);
          ASSERT_EQ(found.decoded, expected.decoded);
          ASSERT_EQ(found.errors, expected.errors);
          ASSERT_TRUE(found.codes.intact() && found.scale_codes.intact() && found.decoded.intact() && found.errors.intact());
        }
      }
    }
  }
}

TEST_P(GroupKernelsOf, AddsProductsOfAnyShape) {
  std::mt19937_64 engine(5);
  for (const size_t rows : std::initializer_list<size_t>{1, 2, 7, 8, 9, 33}) {
    for (const size_t columns : std::initializer_list<size_t>{1, 3, 8, 15, 16, 17, 32, 40, 65}) {
      for (const size_t inner : std::initializer_list<size_t>{0, 1, 16, 37, 300}) {
        SCOPED_TRACE(testing::Message() << rows << " x " << inner << " x " << columns);
        const size_t left_stride = inner + 3, right_stride = columns + 2, out_stride = columns + 1;
        std::vector<float> left(rows * left_stride), right(inner * right_stride + 1);
        for (float& value : left) value = gauss(engine);
        for (float& value : right) value = gauss(engine);
        Guarded<float> out(rows * out_stride);
        std::vector<float> before(rows * out_stride);
        for (size_t i = 0; i < before.size(); ++i) out.data()[i] = before[i] = gauss(engine);
        tested_.add_product(left.data(), left_stride, right.data(), right_stride, inner, out.data(), out_stride, rows, columns);
        for (size_t r = 0; r < rows; ++r) {
          for (size_t c = 0; c < out_stride; ++c) {
            double expected = before[r * out_stride + c];
            for (size_t k = 0; k < inner && c < columns; ++k)
              expected += double{left[r * left_stride + k]} * double{right[k * right_stride + c]};
            ASSERT_NEAR(out.data()[r * out_stride + c], expected, 1e-4) << r << ' ' << c;
          }
        }
        ASSERT_TRUE(out.intact());
      }
    }
  }
}

// The specification itself against docs/codec.md in double precision, with and without an importance.
class Oracle {
 public:
  Oracle(const float* weights, const float* importance, int largest_code) : largest_(largest_code) {
    double energy = 0;
    for (size_t i = 0; i < kGroupSize; ++i) energy += static_cast<double>(weights[i]) * weights[i];
    for (size_t i = 0; i < kGroupSize; ++i) {
      a_[i] = std::abs(static_cast<double>(weights[i]));
      h_[i] = importance != nullptr ? importance[i] : std::sqrt(std::sqrt(energy / 16) + a_[i]);
    }
  }
  double code(size_t i, double step) const { return std::min(std::nearbyint(a_[i] / step), static_cast<double>(largest_)); }
  double error(double step) const {
    double sum = 0;
    for (size_t i = 0; i < kGroupSize; ++i) sum += h_[i] * std::pow(a_[i] - code(i, step) * step, 2);
    return sum;
  }
  // The least error over all steps. The best step for given codes is Σhaq/Σhq², and codes change only where a magnitude lies
  // halfway between two levels: so one step from each interval between such points is enough.
  double least_error() const {
    std::vector<double> turns{1e-9};
    for (const double a : a_) {
      for (int q = 0; q < largest_; ++q) turns.push_back(a / (q + 0.5));
    }
    std::sort(turns.begin(), turns.end());
    double least = error(1e9);
    for (size_t k = 0; k + 1 < turns.size(); ++k) {
      const double inside = 0.5 * (turns[k] + turns[k + 1]);
      double numerator = 0, denominator = 0;
      for (size_t i = 0; i < kGroupSize; ++i) {
        numerator += h_[i] * a_[i] * code(i, inside);
        denominator += h_[i] * code(i, inside) * code(i, inside);
      }
      if (denominator > 0) least = std::min(least, error(numerator / denominator));
    }
    return least;
  }
  double numerator(double step) const {
    double sum = 0;
    for (size_t i = 0; i < kGroupSize; ++i) sum += h_[i] * a_[i] * code(i, step);
    return sum;
  }
  double denominator(double step) const {
    double sum = 0;
    for (size_t i = 0; i < kGroupSize; ++i) sum += h_[i] * code(i, step) * code(i, step);
    return sum;
  }

 private:
  int largest_;
  std::array<double, kGroupSize> a_, h_;
};

// Calls body(groups, weights, importance, largest code) for ordinary weights, every kind of importance and every depth.
template <typename Body>
void for_oracle_cases(Body&& body) {
  constexpr size_t kGroups = 60;
  const auto weights = make_groups(0, kGroups, 5);
  for (size_t kind = 0; kind < std::size(kImportances); ++kind) {
    SCOPED_TRACE(kImportances[kind]);
    const auto importance = make_importance(kind, kGroups);
    for (int depth = 1; depth <= codec::kMaxDepth; ++depth) {
      SCOPED_TRACE(testing::Message() << "depth " << depth);
      body(kGroups, weights.get(), importance.get(), codec::largest_code(depth));
    }
  }
}

Oracle oracle_of(const float* weights, const float* importance, size_t group, int largest_code) {
  return {weights + group * kGroupSize, importance == nullptr ? nullptr : importance + group * kGroupSize, largest_code};
}

TEST(ScalarGroupKernels, TheBestStepIsTheBestOfAll) {
  for_oracle_cases([](size_t groups, const float* weights, const float* importance, int largest_code) {
    std::vector<float> steps(groups), curvatures(groups);
    codec::scalar_group_kernels().best_steps(weights, importance, groups, largest_code, steps.data(), curvatures.data());
    for (size_t g = 0; g < groups; ++g) {
      const Oracle oracle = oracle_of(weights, importance, g, largest_code);
      const double least = oracle.least_error();
      EXPECT_LE(oracle.error(steps[g]), least + 1e-5 * oracle.error(1e9)) << "group " << g;
      // A magnitude halfway between two levels may get one code in float and the next in double.
      EXPECT_NEAR(curvatures[g], oracle.denominator(steps[g]), 1e-3 * curvatures[g]) << "group " << g;
    }
  });
}

TEST(ScalarGroupKernels, TheBestScaleCodeIsTheBestOfAll) {
  const Codebook codebook = codec::geometric_codebook(0.004f, 0.08f);
  for_oracle_cases([&](size_t groups, const float* weights, const float* importance, int largest_code) {
    std::vector<uint8_t> chosen(groups);
    codec::scalar_group_kernels().best_scale_codes(weights, importance, groups, largest_code, codebook.data(), chosen.data());
    for (size_t g = 0; g < groups; ++g) {
      const Oracle oracle = oracle_of(weights, importance, g, largest_code);
      const auto error = [&](size_t scale_code) { return oracle.error(codebook[scale_code] / static_cast<double>(largest_code)); };
      for (size_t other = 0; other < codebook.size(); ++other) {
        EXPECT_LE(error(chosen[g]), error(other) + 1e-5 * oracle.error(1e9)) << "group " << g << ", scale code " << other;
      }
    }
  });
}

TEST(ScalarGroupKernels, StepSumsAreThoseOfTheChosenScales) {
  const Codebook codebook = codec::geometric_codebook(0.004f, 0.08f);
  for_oracle_cases([&](size_t groups, const float* weights, const float* importance, int largest_code) {
    std::vector<uint8_t> chosen(groups);
    for (size_t g = 0; g < groups; ++g) chosen[g] = static_cast<uint8_t>(g % codec::kCodebookSize);
    std::vector<float> numerators(groups), denominators(groups);
    codec::scalar_group_kernels().step_sums(weights, importance, groups, largest_code, codebook.data(), chosen.data(),
                                            numerators.data(), denominators.data());
    for (size_t g = 0; g < groups; ++g) {
      const Oracle oracle = oracle_of(weights, importance, g, largest_code);
      const double step = codebook[chosen[g]] / static_cast<double>(largest_code);
      EXPECT_NEAR(numerators[g], oracle.numerator(step), 1e-5 * oracle.numerator(step)) << "group " << g;
      EXPECT_NEAR(denominators[g], oracle.denominator(step), 1e-5 * oracle.denominator(step)) << "group " << g;
    }
  });
}

}  // namespace
}  // namespace tritllm::kernels
