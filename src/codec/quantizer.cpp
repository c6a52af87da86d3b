#include "codec/quantizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>

#include "codec/trits.h"
#include "core/error.h"
#include "core/half.h"

namespace tritllm::codec {
namespace {

constexpr size_t kLargeGroups = 1024;
constexpr uint64_t kStridedGroups = 32768;
constexpr int kLloydRounds = 10;
constexpr size_t kSampleTask = 1024;  // groups of the sample that one call of a kernel takes

// Each row of importance with the padding of a row of groups, where errors are zero and count nothing.
std::vector<float> padded_importance(std::span<const float> importance, const MatrixShape& shape) {
  if (importance.empty()) return {};
  if (importance.size() != shape.codebooks() * shape.columns) {
    throw Error(ErrorCode::kUsage, "importance",
                fmt::format("expected {} x {} numbers, found {}", shape.codebooks(), shape.columns, importance.size()));
  }
  for (size_t i = 0; i < importance.size(); ++i) {
    if (importance[i] >= kLeastImportance && importance[i] <= kMostImportance) continue;
    throw Error(ErrorCode::kUsage, fmt::format("importance: codebook {}, column {}", i / shape.columns, i % shape.columns),
                fmt::format("expected {} to {}, found {}", kLeastImportance, kMostImportance, importance[i]),
                "scale it to a mean of 1 and raise what is near zero");
  }
  std::vector<float> padded(shape.codebooks() * shape.groups_per_row() * kGroupSize);
  const MatrixShape rows{shape.codebooks(), shape.columns};
  pad_groups(rows, 0, rows.groups(), importance.data(), padded.data());
  return padded;
}

// The groups among `magnitudes` that are the largest, ascending; zero groups are never among them.
std::vector<size_t> largest_groups(std::span<const float> magnitudes) {
  std::vector<size_t> large;
  for (size_t g = 0; g < magnitudes.size(); ++g) {
    if (magnitudes[g] >= kSmallestScale) large.push_back(g);
  }
  if (large.size() <= kLargeGroups) return large;
  const auto cut = large.begin() + static_cast<ptrdiff_t>(kLargeGroups);
  std::nth_element(large.begin(), cut, large.end(),
                   [&](size_t a, size_t b) { return magnitudes[a] != magnitudes[b] ? magnitudes[a] > magnitudes[b] : a < b; });
  large.erase(cut, large.end());
  std::sort(large.begin(), large.end());
  return large;
}

}  // namespace

std::optional<size_t> find_unusable_weight(std::span<const float> weights, float largest) noexcept {
  // As integers, magnitudes sort like floats, with infinity and NaN above all numbers.
  const uint32_t largest_bits = std::bit_cast<uint32_t>(largest);
  constexpr size_t kChunk = 4096;
  for (size_t begin = 0; begin < weights.size(); begin += kChunk) {
    const size_t end = std::min(weights.size(), begin + kChunk);
    uint32_t unusable = 0;
    for (size_t i = begin; i < end; ++i) {
      unusable |= (std::bit_cast<uint32_t>(weights[i]) & 0x7fffffffu) > largest_bits ? 1u : 0u;
    }
    if (unusable == 0) continue;
    for (size_t i = begin; i < end; ++i) {
      if ((std::bit_cast<uint32_t>(weights[i]) & 0x7fffffffu) > largest_bits) return i;
    }
  }
  return std::nullopt;
}

MatrixQuantizer::MatrixQuantizer(Config config, ScaleSearch search, MatrixShape shape, const GroupKernels& kernels,
                                 std::vector<Codebook> codebooks)
    : config_(config),
      search_(search),
      shape_(shape),
      stripes_(shape),
      kernels_(kernels),
      largest_code_(largest_code(config.depth)),
      codebooks_(std::move(codebooks)),
      stats_(stripes_.size()) {}

MatrixQuantizer::MatrixQuantizer(Config config, MatrixShape shape, const GroupKernels& kernels, const ColumnStatistics& statistics)
    : MatrixQuantizer(config, recipe_row(config.recipe).search, shape, kernels, std::vector<Codebook>(shape.codebooks())) {
  importance_ = padded_importance(statistics.importance, shape);
  if (search_ == ScaleSearch::kCandidates && !importance_.empty()) {
    throw Error(ErrorCode::kUsage, "importance", fmt::format("recipe '{}' cannot use it", recipe_name(config.recipe)));
  }
  scales_.resize(shape.groups());
  largest_.resize(stripes_.size());
}

MatrixQuantizer::MatrixQuantizer(const ExactForm& form, MatrixShape shape, const GroupKernels& kernels)
    : MatrixQuantizer({Recipe::kExact, form.depth}, ScaleSearch::kGivesBack, shape, kernels, form.codebooks) {
  for (const Codebook& codebook : codebooks_) exact_tables_.emplace_back(codebook, form.depth, form.rounding);
}

MatrixQuantizer::MatrixQuantizer(Config config, const ChosenCodes& chosen, MatrixShape shape, const GroupKernels& kernels)
    : MatrixQuantizer(config, recipe_row(config.recipe).search, shape, kernels, {chosen.codebook}) {
  chosen_ = chosen;
  if (chosen.scale_codes.size() != shape.groups() || chosen.codes.size() != shape.groups() * kGroupSize || shape.codebooks() != 1)
    throw Error(ErrorCode::kUsage, "codes", fmt::format("expected those of {} groups with one codebook", shape.groups()));
}

void MatrixQuantizer::collect_scales(size_t index, const float* weights) {
  const Stripe stripe = stripes_[index];
  std::vector<float> magnitudes(stripe.groups);
  kernels_.magnitudes(weights, stripe.groups, magnitudes.data());
  for_codebooks(shape_, stripe.first_group, stripe.groups, [&](size_t, uint64_t first, size_t count) {
    const auto begin = magnitudes.begin() + static_cast<ptrdiff_t>(first - stripe.first_group);
    largest_[index].push_back(*std::max_element(begin, begin + static_cast<ptrdiff_t>(count)));
  });
  float* const scales = scales_.data() + stripe.first_group;
  if (search_ == ScaleSearch::kCandidates) kernels_.candidate_scales(weights, stripe.groups, largest_code_, scales);
  else std::copy(magnitudes.begin(), magnitudes.end(), scales);
}

std::span<const float> MatrixQuantizer::scales_of(size_t codebook) const noexcept {
  const uint64_t groups = shape_.groups_per_codebook();
  return std::span(scales_).subspan(codebook * groups, groups);
}

const float* MatrixQuantizer::importance_of(size_t codebook, uint64_t group) const noexcept {
  if (importance_.empty()) return nullptr;
  const uint64_t per_row = shape_.groups_per_row();
  return importance_.data() + (codebook * per_row + group % per_row) * kGroupSize;
}

// Some groups of a codebook, weighed so that together they act as all of them, gathered for the kernels.
struct MatrixQuantizer::Sample {
  std::vector<uint64_t> groups;        // indices in the matrix, ascending
  std::vector<double> multiplicities;  // the number of groups that each one represents
  std::vector<float> weights;          // [groups][16]
  std::vector<float> importance;       // [groups][16]; empty: unknown

  const float* importance_at(size_t group) const noexcept {
    return importance.empty() ? nullptr : importance.data() + group * kGroupSize;
  }

  // Calls body(first, count) for consecutive groups of the sample.
  void for_tasks(const ParallelLoop& loop, const std::function<void(size_t first, size_t count)>& body) const {
    loop((groups.size() + kSampleTask - 1) / kSampleTask, [&](size_t task) {
      const size_t first = task * kSampleTask;
      body(first, std::min(kSampleTask, groups.size() - first));
    });
  }
};

void MatrixQuantizer::choose_codebooks(const ReadGroup& read, const ParallelLoop& loop) {
  if (chosen_ || search_ == ScaleSearch::kGivesBack) return;
  if (search_ == ScaleSearch::kCandidates) return choose_geometric_codebooks();
  for (size_t i = 0; i < codebooks_.size(); ++i) {
    // What FP16 holds before, FP16 is to hold afterwards.
    const float largest = scales_of(i).empty() ? 0.0f : *std::ranges::max_element(scales_of(i));
    const float largest_scale = largest > kLargestHalf ? kLargestWeight : kLargestHalf;
    codebooks_[i] = clustered_codebook_of(take_sample(i, read, loop), loop, largest_scale);
  }
}

void MatrixQuantizer::choose_geometric_codebooks() {
  std::vector<float> largest(codebooks_.size());
  for (size_t i = 0; i < stripes_.size(); ++i) {
    auto magnitude = largest_[i].begin();
    for_codebooks(shape_, stripes_[i].first_group, stripes_[i].groups,
                  [&](size_t codebook, uint64_t, size_t) { largest[codebook] = std::max(largest[codebook], *magnitude++); });
  }
  for (size_t i = 0; i < codebooks_.size(); ++i) {
    float smallest = INFINITY;
    for (const float scale : scales_of(i)) {
      if (scale > 0.0f) smallest = std::min(smallest, scale);
    }
    if (smallest < INFINITY) codebooks_[i] = geometric_codebook(smallest, largest[i]);
  }
}

MatrixQuantizer::Sample MatrixQuantizer::take_sample(size_t codebook, const ReadGroup& read, const ParallelLoop& loop) const {
  const std::span<const float> magnitudes = scales_of(codebook);
  const uint64_t first_group = codebook * shape_.groups_per_codebook();
  const std::vector<size_t> large = largest_groups(magnitudes);
  const uint64_t stride = (magnitudes.size() + kStridedGroups - 1) / kStridedGroups;
  Sample sample;
  auto next_large = large.begin();
  for (size_t g = 0; g < magnitudes.size(); ++g) {
    const bool is_large = next_large != large.end() && *next_large == g;
    if (is_large) ++next_large;
    if (!is_large && (g % stride != 0 || magnitudes[g] < kSmallestScale)) continue;
    sample.groups.push_back(first_group + g);
    sample.multiplicities.push_back(is_large ? 1.0 : static_cast<double>(stride));
  }
  sample.weights.resize(sample.groups.size() * kGroupSize);
  if (!importance_.empty()) sample.importance.resize(sample.weights.size());
  sample.for_tasks(loop, [&](size_t first, size_t count) {
    for (size_t i = first; i < first + count; ++i) {
      read(sample.groups[i], sample.weights.data() + i * kGroupSize);
      const float* const importance = importance_of(codebook, sample.groups[i]);
      if (importance != nullptr) std::copy_n(importance, kGroupSize, sample.importance.data() + i * kGroupSize);
    }
  });
  return sample;
}

Codebook MatrixQuantizer::clustered_codebook_of(const Sample& sample, const ParallelLoop& loop, float largest_scale) const {
  if (sample.groups.empty()) return {};
  std::vector<float> steps(sample.groups.size()), curvatures(sample.groups.size());
  sample.for_tasks(loop, [&](size_t first, size_t count) {
    kernels_.best_steps(sample.weights.data() + first * kGroupSize, sample.importance_at(first), count, largest_code_,
                        steps.data() + first, curvatures.data() + first);
  });
  std::vector<WeightedStep> weighted(sample.groups.size());
  for (size_t i = 0; i < weighted.size(); ++i) weighted[i] = {steps[i], sample.multiplicities[i] * curvatures[i]};
  Codebook codebook = clustered_codebook(weighted, largest_code_, largest_scale);
  improve_codebook(sample, loop, largest_scale, codebook);
  return codebook;
}

// Lloyd's algorithm.
void MatrixQuantizer::improve_codebook(const Sample& sample, const ParallelLoop& loop, float largest_scale,
                                       Codebook& codebook) const {
  const size_t groups = sample.groups.size();
  std::vector<uint8_t> scale_codes(groups), former;
  std::vector<float> numerators(groups), denominators(groups);
  for (int round = 0; round < kLloydRounds; ++round) {
    sample.for_tasks(loop, [&](size_t first, size_t count) {
      const float *const weights = sample.weights.data() + first * kGroupSize, *const importance = sample.importance_at(first);
      uint8_t* const chosen = scale_codes.data() + first;
      kernels_.best_scale_codes(weights, importance, count, largest_code_, codebook.data(), chosen);
      kernels_.step_sums(weights, importance, count, largest_code_, codebook.data(), chosen, numerators.data() + first,
                         denominators.data() + first);
    });
    if (scale_codes == former) return;
    former = scale_codes;
    std::array<double, kCodebookSize> numerator{}, denominator{};
    for (size_t i = 0; i < groups; ++i) {
      numerator[scale_codes[i]] += sample.multiplicities[i] * numerators[i];
      denominator[scale_codes[i]] += sample.multiplicities[i] * denominators[i];
    }
    for (size_t i = 0; i < kCodebookSize; ++i) {
      if (!(denominator[i] > 0.0)) continue;
      codebook[i] = std::min(static_cast<float>(largest_code_ * (numerator[i] / denominator[i])), largest_scale);
    }
    std::sort(codebook.begin(), codebook.end());
  }
}

// For groups of one codebook; weights and scale_codes begin with the first of them.
void MatrixQuantizer::choose_scale_codes(size_t codebook, uint64_t first_group, size_t groups, const float* weights,
                                         uint8_t* scale_codes) const {
  const Codebook& scales = codebooks_[codebook];
  if (search_ == ScaleSearch::kCandidates) {
    kernels_.nearest_scale_codes(scales_.data() + first_group, groups, nearest_thresholds(scales).data(), scale_codes);
    return;
  }
  if (importance_.empty()) {
    kernels_.best_scale_codes(weights, nullptr, groups, largest_code_, scales.data(), scale_codes);
    return;
  }
  for_periods(shape_, shape_.groups_per_row(), first_group, groups, [&](uint64_t first, size_t count) {
    const uint64_t offset = first - first_group;
    kernels_.best_scale_codes(weights + offset * kGroupSize, importance_of(codebook, first), count, largest_code_, scales.data(),
                              scale_codes + offset);
  });
}

void MatrixQuantizer::encode(size_t index, const float* weights, EncodedStripe& out) {
  const Stripe stripe = stripes_[index];
  const size_t groups = stripe.padded_groups();
  out.lines = stripe.lines;
  out.codes.assign(groups * kGroupSize, 0);
  out.scale_codes.assign(groups, 0);
  out.scales.resize(out.lines * kScaleTrits);
  out.planes.resize(static_cast<size_t>(config_.depth));
  std::array<uint8_t*, kMaxDepth> planes{};
  for (size_t plane = 0; plane < out.planes.size(); ++plane) {
    out.planes[plane].resize(out.lines * kGroupSize);
    planes[plane] = out.planes[plane].data();
  }

  std::vector<float> sums(6 * stripe.groups);
  const auto stats_from = [&](size_t group) {
    float* const first = sums.data() + group;
    const size_t n = stripe.groups;
    return GroupStats{first, first + n, first + 2 * n, first + 3 * n, first + 4 * n, first + 5 * n};
  };
  for_codebooks(shape_, stripe.first_group, stripe.groups, [&](size_t codebook, uint64_t first, size_t count) {
    const auto offset = static_cast<size_t>(first - stripe.first_group);
    const float* const run = weights + offset * kGroupSize;
    uint8_t* const scale_codes = out.scale_codes.data() + offset;
    int8_t* const codes = out.codes.data() + offset * kGroupSize;
    if (chosen_) return take_chosen(first, count, run, scale_codes, codes, stats_from(offset));
    if (search_ == ScaleSearch::kGivesBack)
      return encode_exactly(codebook, first, count, run, scale_codes, codes, stats_from(offset));
    choose_scale_codes(codebook, first, count, run, scale_codes);
    kernels_.encode(run, count, largest_code_, codebooks_[codebook].data(), scale_codes, codes, stats_from(offset));
  });
  pack_lines(out.lines, config_.depth, out.codes.data(), out.scale_codes.data(), {planes.data(), out.planes.size()},
             out.scales.data());
  stats_[index] = sum_stats(stats_from(0), out, stripe);
}

// Nothing is lost, so the statistics are those of the source: what it stores is what the codes give back, rounded as it was.
void MatrixQuantizer::encode_exactly(size_t codebook, uint64_t first_group, size_t groups, const float* weights,
                                     uint8_t* scale_codes, int8_t* codes, const GroupStats& stats) const {
  const ExactTable& table = exact_tables_[codebook];
  for (size_t g = 0; g < groups; ++g, weights += kGroupSize, codes += kGroupSize) {
    const uint32_t fitting = table.fitting_codes(weights);
    if (fitting == 0) {
      throw Error(ErrorCode::kConflict, fmt::format("group {}", first_group + g), "the source changed while it was read",
                  "run again");
    }
    scale_codes[g] = static_cast<uint8_t>(std::countr_zero(fitting));
    table.encode(weights, scale_codes[g], codes);
    float energy = 0.0f;
    for (size_t i = 0; i < kGroupSize; ++i) energy += weights[i] * weights[i];
    stats.weight_energy[g] = stats.product[g] = stats.decoded_energy[g] = energy;
    stats.error_energy[g] = stats.largest_error[g] = stats.clipped[g] = 0.0f;
  }
}

void MatrixQuantizer::take_chosen(uint64_t first_group, size_t groups, const float* weights, uint8_t* scale_codes, int8_t* codes,
                                  const GroupStats& stats) const {
  std::copy_n(chosen_->codes.data() + first_group * kGroupSize, groups * kGroupSize, codes);
  std::copy_n(chosen_->scale_codes.data() + first_group, groups, scale_codes);
  const auto limit = static_cast<float>(largest_code_);
  for (size_t g = 0; g < groups; ++g, weights += kGroupSize, codes += kGroupSize) {
    const float scale = codebooks_[0][scale_codes[g]], step = scale / limit;
    float weight_energy = 0, error_energy = 0, product = 0, decoded_energy = 0, largest_error = 0, clipped = 0;
    for (size_t i = 0; i < kGroupSize; ++i) {
      const float w = weights[i], decoded = static_cast<float>(codes[i]) * step, difference = w - decoded;
      weight_energy += w * w;
      error_energy += difference * difference;
      product += w * decoded;
      decoded_energy += decoded * decoded;
      largest_error = std::max(largest_error, std::fabs(difference));
      clipped += std::fabs(w) > (limit + 0.5f) * step ? 1.0f : 0.0f;
    }
    stats.weight_energy[g] = weight_energy;
    stats.error_energy[g] = error_energy;
    stats.product[g] = product;
    stats.decoded_energy[g] = decoded_energy;
    stats.largest_error[g] = largest_error;
    stats.clipped[g] = clipped;
  }
}

MatrixStats MatrixQuantizer::sum_stats(const GroupStats& stats, const EncodedStripe& encoded, const Stripe& stripe) const {
  MatrixStats sum;
  for (size_t g = 0; g < stripe.groups; ++g) {
    sum.weight_energy += stats.weight_energy[g];
    sum.error_energy += stats.error_energy[g];
    sum.product += stats.product[g];
    sum.decoded_energy += stats.decoded_energy[g];
    sum.largest_error = std::max(sum.largest_error, stats.largest_error[g]);
    sum.clipped += static_cast<uint64_t>(stats.clipped[g]);
  }
  // Four tables in turn, since counting one level twice in a row waits for the first count to be stored.
  std::array<std::array<uint32_t, 256>, 4> counts{};
  for (size_t i = 0; i < encoded.codes.size(); i += 4) {
    for (size_t k = 0; k < 4; ++k) ++counts[k][static_cast<uint8_t>(encoded.codes[i + k])];
  }
  for (int code = -largest_code_; code <= largest_code_; ++code) {
    uint64_t count = 0;
    for (const auto& table : counts) count += table[static_cast<uint8_t>(code)];
    sum.level_histogram.push_back(count);
  }
  // Padding has code 0 and is not a weight.
  sum.weights = weights_in_groups(shape_, stripe.first_group, stripe.groups).count;
  sum.level_histogram[static_cast<size_t>(largest_code_)] -= encoded.codes.size() - sum.weights;
  return sum;
}

MatrixStats MatrixQuantizer::stats() const {
  MatrixStats total;
  for (const MatrixStats& stripe : stats_) total.add(stripe);
  return total;
}

}  // namespace tritllm::codec
