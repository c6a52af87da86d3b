#include "codec/quantizer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "codec/trits.h"
#include "core/half.h"

namespace tritllm::codec {
namespace {

constexpr size_t kLargeGroups = 1024;
constexpr uint64_t kStridedGroups = 32768;
constexpr int kLloydRounds = 10;
constexpr size_t kSamplePiece = 1024;  // groups of the sample that one call of a kernel takes

size_t pieces_of(size_t groups) { return (groups + kSamplePiece - 1) / kSamplePiece; }

}  // namespace

std::optional<size_t> find_unusable_weight(std::span<const float> weights) noexcept {
  // As integers, magnitudes sort like floats, with infinity and NaN above all numbers.
  constexpr uint32_t kLargest = std::bit_cast<uint32_t>(kLargestHalf);
  constexpr size_t kStretch = 4096;
  for (size_t begin = 0; begin < weights.size(); begin += kStretch) {
    const size_t end = std::min(weights.size(), begin + kStretch);
    uint32_t unusable = 0;
    for (size_t i = begin; i < end; ++i) {
      unusable |= (std::bit_cast<uint32_t>(weights[i]) & 0x7fffffffu) > kLargest ? 1u : 0u;
    }
    if (unusable == 0) continue;
    for (size_t i = begin; i < end; ++i) {
      if ((std::bit_cast<uint32_t>(weights[i]) & 0x7fffffffu) > kLargest) return i;
    }
  }
  return std::nullopt;
}

double sqnr_db_from_relative_mse(double relative_mse) noexcept {
  if (relative_mse <= 0.0) return INFINITY;
  return std::round(-10.0 * std::log10(relative_mse) * 1e4) / 1e4;
}

double MatrixFigures::relative_mse() const noexcept { return weight_energy > 0.0 ? error_energy / weight_energy : 0.0; }

double MatrixFigures::sqnr_db() const noexcept { return sqnr_db_from_relative_mse(relative_mse()); }

double MatrixFigures::cosine() const noexcept {
  const double norm = std::sqrt(weight_energy * decoded_energy);
  if (norm > 0.0) return product / norm;
  return weight_energy > 0.0 ? 0.0 : 1.0;
}

void MatrixFigures::add(const MatrixFigures& other) {
  weights += other.weights;
  weight_energy += other.weight_energy;
  error_energy += other.error_energy;
  product += other.product;
  decoded_energy += other.decoded_energy;
  largest_error = std::max(largest_error, other.largest_error);
  clipped += other.clipped;
  if (level_histogram.size() < other.level_histogram.size()) level_histogram.resize(other.level_histogram.size());
  for (size_t i = 0; i < other.level_histogram.size(); ++i) level_histogram[i] += other.level_histogram[i];
}

MatrixQuantizer::MatrixQuantizer(Config config, MatrixShape shape, const GroupKernels& kernels)
    : config_(config),
      shape_(shape),
      kernels_(kernels),
      largest_code_(largest_code(config.depth)),
      surveyed_(shape.groups()),
      block_magnitude_((shape.lines() + kBlockLines - 1) / kBlockLines),
      blocks_(block_magnitude_.size()) {}

size_t MatrixQuantizer::padded_groups(size_t block) const noexcept {
  const uint64_t first_line = block * kBlockLines;
  return static_cast<size_t>(std::min<uint64_t>(kBlockLines, shape_.lines() - first_line)) * kLineGroups;
}

void MatrixQuantizer::survey(size_t block, const float* weights) {
  const size_t first = block * kBlockGroups;
  const size_t groups = std::min<size_t>(kBlockGroups, shape_.groups() - first);
  float* const out = surveyed_.data() + first;
  std::array<float, kBlockGroups> magnitudes;
  kernels_.magnitudes(weights, groups, magnitudes.data());
  block_magnitude_[block] = *std::max_element(magnitudes.begin(), magnitudes.begin() + static_cast<ptrdiff_t>(groups));
  if (config_.recipe == Recipe::kUniform) {
    kernels_.candidate_scales(weights, groups, largest_code_, out);
  } else {
    std::copy_n(magnitudes.begin(), groups, out);
  }
}

void MatrixQuantizer::choose_codebook(const ReadGroup& read, const ParallelLoop& loop) {
  if (config_.recipe == Recipe::kOptimal) {
    choose_optimal_codebook(read, loop);
    return;
  }
  float smallest = INFINITY;
  for (const float scale : surveyed_) {
    if (scale > 0.0f) smallest = std::min(smallest, scale);
  }
  const bool all_zero = smallest == INFINITY;
  codebook_ = geometric_codebook(all_zero ? 0.0f : smallest,
                                 all_zero ? 0.0f : *std::max_element(block_magnitude_.begin(), block_magnitude_.end()));
  thresholds_ = nearest_thresholds(codebook_);
}

// Groups that stand for the whole matrix while its codebook is built, gathered so that kernels can run over them.
struct MatrixQuantizer::Sample {
  std::vector<uint64_t> groups;        // indices, ascending
  std::vector<double> multiplicities;  // how many groups each one stands for
  std::vector<float> weights;          // [groups][16]

  // Calls body(first, count) over pieces of the sample.
  void for_pieces(const ParallelLoop& loop, const std::function<void(size_t first, size_t count)>& body) const {
    loop(pieces_of(groups.size()), [&](size_t piece) {
      const size_t first = piece * kSamplePiece;
      body(first, std::min(kSamplePiece, groups.size() - first));
    });
  }
};

MatrixQuantizer::Sample MatrixQuantizer::take_sample(const ReadGroup& read, const ParallelLoop& loop) const {
  std::vector<uint64_t> large;
  for (uint64_t g = 0; g < surveyed_.size(); ++g) {
    if (surveyed_[g] >= kSmallestScale) large.push_back(g);
  }
  if (large.size() > kLargeGroups) {
    const auto cut = large.begin() + static_cast<ptrdiff_t>(kLargeGroups);
    std::nth_element(large.begin(), cut, large.end(),
                     [&](uint64_t a, uint64_t b) { return surveyed_[a] != surveyed_[b] ? surveyed_[a] > surveyed_[b] : a < b; });
    large.erase(cut, large.end());
    std::sort(large.begin(), large.end());
  }

  Sample sample;
  const uint64_t stride = (surveyed_.size() + kStridedGroups - 1) / kStridedGroups;
  auto next_large = large.begin();
  for (uint64_t g = 0; g < surveyed_.size(); ++g) {
    const bool is_large = next_large != large.end() && *next_large == g;
    if (is_large) ++next_large;
    if (!is_large && (g % stride != 0 || surveyed_[g] < kSmallestScale)) continue;
    sample.groups.push_back(g);
    sample.multiplicities.push_back(is_large ? 1.0 : static_cast<double>(stride));
  }
  sample.weights.resize(sample.groups.size() * kGroupSize);
  sample.for_pieces(loop, [&](size_t first, size_t count) {
    for (size_t i = first; i < first + count; ++i) read(sample.groups[i], sample.weights.data() + i * kGroupSize);
  });
  return sample;
}

void MatrixQuantizer::choose_optimal_codebook(const ReadGroup& read, const ParallelLoop& loop) {
  const Sample sample = take_sample(read, loop);
  std::vector<float> steps(sample.groups.size()), curvatures(sample.groups.size());
  sample.for_pieces(loop, [&](size_t first, size_t count) {
    kernels_.best_steps(sample.weights.data() + first * kGroupSize, count, largest_code_, steps.data() + first,
                        curvatures.data() + first);
  });
  std::vector<WeightedStep> weighted(sample.groups.size());
  for (size_t i = 0; i < weighted.size(); ++i) weighted[i] = {steps[i], sample.multiplicities[i] * curvatures[i]};
  codebook_ = clustered_codebook(weighted, largest_code_);
  if (!sample.groups.empty()) improve_codebook(sample, loop);
}

void MatrixQuantizer::improve_codebook(const Sample& sample, const ParallelLoop& loop) {
  const size_t groups = sample.groups.size();
  std::vector<uint8_t> entries(groups), former;
  std::vector<float> numerators(groups), denominators(groups);
  for (int round = 0; round < kLloydRounds; ++round) {
    sample.for_pieces(loop, [&](size_t first, size_t count) {
      const float* const weights = sample.weights.data() + first * kGroupSize;
      kernels_.best_entries(weights, count, largest_code_, codebook_.data(), entries.data() + first);
      kernels_.step_sums(weights, count, largest_code_, codebook_.data(), entries.data() + first, numerators.data() + first,
                         denominators.data() + first);
    });
    if (entries == former) return;
    former = entries;
    std::array<double, kCodebookSize> numerator{}, denominator{};
    for (size_t i = 0; i < groups; ++i) {
      numerator[entries[i]] += sample.multiplicities[i] * numerators[i];
      denominator[entries[i]] += sample.multiplicities[i] * denominators[i];
    }
    for (size_t entry = 0; entry < kCodebookSize; ++entry) {
      if (denominator[entry] > 0.0) {
        const auto scale = static_cast<float>(largest_code_ * (numerator[entry] / denominator[entry]));
        codebook_[entry] = std::min(scale, kLargestHalf);
      }
    }
    std::sort(codebook_.begin(), codebook_.end());
  }
}

void MatrixQuantizer::encode(size_t block, const float* weights, EncodedBlock& out) {
  const size_t groups = padded_groups(block);
  out.lines = groups / kLineGroups;
  out.codes.resize(groups * kGroupSize);
  out.entries.assign(groups, 0);
  out.scales.resize(out.lines * kScaleTrits);
  out.planes.resize(static_cast<size_t>(config_.depth));
  std::array<uint8_t*, kMaxDepth> planes{};
  for (size_t plane = 0; plane < out.planes.size(); ++plane) {
    out.planes[plane].resize(out.lines * kGroupSize);
    planes[plane] = out.planes[plane].data();
  }

  if (config_.recipe == Recipe::kUniform) {
    const size_t first = block * kBlockGroups;
    kernels_.nearest_entries(surveyed_.data() + first, std::min<size_t>(groups, surveyed_.size() - first), thresholds_.data(),
                             out.entries.data());
  } else {
    kernels_.best_entries(weights, groups, largest_code_, codebook_.data(), out.entries.data());
  }
  std::vector<float> figures(6 * groups);
  const GroupFigures group_figures{figures.data(),
                                   figures.data() + groups,
                                   figures.data() + 2 * groups,
                                   figures.data() + 3 * groups,
                                   figures.data() + 4 * groups,
                                   figures.data() + 5 * groups};
  kernels_.encode(weights, groups, largest_code_, codebook_.data(), out.entries.data(), out.codes.data(), group_figures);
  pack_lines(out.lines, config_.depth, out.codes.data(), out.entries.data(), {planes.data(), out.planes.size()}, out.scales.data());
  blocks_[block] = sum_figures(group_figures, out, block);
}

MatrixFigures MatrixQuantizer::sum_figures(const GroupFigures& figures, const EncodedBlock& encoded, size_t block) const {
  MatrixFigures sum;
  const size_t groups = encoded.entries.size();
  for (size_t g = 0; g < groups; ++g) {
    sum.weight_energy += figures.weight_energy[g];
    sum.error_energy += figures.error_energy[g];
    sum.product += figures.product[g];
    sum.decoded_energy += figures.decoded_energy[g];
    sum.largest_error = std::max(sum.largest_error, figures.largest_error[g]);
    sum.clipped += static_cast<uint64_t>(figures.clipped[g]);
  }
  // Four tables side by side, since counting one level twice in a row waits for the first count to be stored.
  std::array<std::array<uint32_t, 256>, 4> counts{};
  for (size_t i = 0; i < encoded.codes.size(); i += 4) {
    for (size_t k = 0; k < 4; ++k) ++counts[k][static_cast<uint8_t>(encoded.codes[i + k])];
  }
  for (int code = -largest_code_; code <= largest_code_; ++code) {
    uint64_t count = 0;
    for (const auto& table : counts) count += table[static_cast<uint8_t>(code)];
    sum.level_histogram.push_back(count);
  }
  // Padding counts as no weight: it lies at the end of rows and of the last line, always with code 0.
  const uint64_t first = block * kBlockGroups, last = std::min<uint64_t>(first + groups, shape_.groups());
  const uint64_t per_row = shape_.groups_per_row();
  const uint64_t rows_ended = last / per_row - first / per_row;
  sum.weights = (last - first) * kGroupSize - rows_ended * (per_row * kGroupSize - shape_.columns);
  sum.level_histogram[static_cast<size_t>(largest_code_)] -= encoded.codes.size() - sum.weights;
  return sum;
}

MatrixFigures MatrixQuantizer::figures() const {
  MatrixFigures total;
  for (const MatrixFigures& block : blocks_) total.add(block);
  return total;
}

}  // namespace tritllm::codec
