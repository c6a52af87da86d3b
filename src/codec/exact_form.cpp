#include "codec/exact_form.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "codec/scale_cover.h"

namespace tritllm::codec {
namespace {

// Groups without a scale that one reading of the matrix brings, so that the choice is made again among few.
constexpr size_t kDemandsPerRound = 4096, kLeastDemandsPerStripe = 8;
constexpr int kDoublings = 10;  // of that number, round by round: the rounds end soon, whatever the matrix

bool is_zero_group(const float* group) noexcept {
  return std::all_of(group, group + kGroupSize, [](float weight) { return weight == 0.0f; });
}

// One number that threads lower.
void lower_to(std::atomic<uint64_t>& least, uint64_t value) noexcept {
  uint64_t now = least;
  while (value < now && !least.compare_exchange_weak(now, value)) {
  }
}

constexpr uint64_t kNoGroup = UINT64_MAX;

// The search at one depth and rounding: in turns, the matrix is read for groups that the codebooks do not fit, and codebooks are
// chosen that fit these too.
class FormSearch {
 public:
  FormSearch(const MatrixShape& shape, int depth, Rounding rounding, const VisitStripes& visit)
      : shape_(shape),
        stripes_(shape),
        rounding_(rounding),
        largest_code_(largest_code(depth)),
        visit_(visit),
        form_{.depth = depth, .rounding = rounding, .codebooks = std::vector<Codebook>(shape.codebooks())},
        covers_(shape.codebooks()),
        tables_(shape.codebooks(), ExactTable(Codebook{}, depth, rounding)),
        demands_(shape.codebooks()) {}

  ExactResult run() {
    for (int round = 0;; ++round) {
      const uint64_t unfit = collect_demands(round);
      if (unfit != kNoGroup) return misfit_at(unfit, false);
      bool is_complete = true;
      for (size_t i = 0; i < demands_.size(); ++i) {
        if (merge_fresh_demands(i) == 0) continue;
        is_complete = false;
        covers_[i] = cover_demands(demands_[i], kCodebookSize);
        if (!covers_[i].complete) return misfit_at(covers_[i].unmet_group, true);
        set_codebook(i);
      }
      if (is_complete) return {std::move(form_), {}};
    }
  }

  // The first group of the matrix that no scale fits, at the cost of a close look at each group before it.
  uint64_t first_unfit_group() const {
    std::atomic<uint64_t> first{kNoGroup};
    visit_([&](size_t stripe) { return stripes_[stripe].first_group < first; },
           [&](size_t index, const float* weights) {
             const Stripe stripe = stripes_[index];
             for (size_t g = 0; g < stripe.groups && stripe.first_group + g < first; ++g) {
               const float* const group = weights + g * kGroupSize;
               if (!is_zero_group(group) && fitting_scales({group, kGroupSize}, largest_code_, rounding_).empty())
                 lower_to(first, stripe.first_group + g);
             }
           });
    return first;
  }

  GroupFit nearest_fit_of(uint64_t group, bool among_chosen) const {
    GroupFit fit;
    visit_([&](size_t stripe) { return holds(stripes_[stripe], group); },
           [&](size_t index, const float* weights) {
             const std::span<const float> values(weights + (group - stripes_[index].first_group) * kGroupSize, kGroupSize);
             const std::vector<float>& scales = covers_[group / shape_.groups_per_codebook()].scales;
             fit = among_chosen ? nearest_fit(values, scales, largest_code_, rounding_)
                                : nearest_fit(values, largest_code_, rounding_);
           });
    return fit;
  }

 private:
  static bool holds(const Stripe& stripe, uint64_t group) {
    return group >= stripe.first_group && group - stripe.first_group < stripe.groups;
  }

  ExactResult misfit_at(uint64_t group, bool lacks_scales) const {
    ExactResult result;
    result.misfit = {.depth = form_.depth, .group = group, .lacks_scales = lacks_scales, .nearest = {}};
    return result;
  }

  // Reads the matrix for groups that their codebook does not fit, the first few of each stripe. Returns a group that no scale fits
  // at all, after which nothing more is read.
  uint64_t collect_demands(int round) {
    const size_t per_stripe = std::max(kLeastDemandsPerStripe, kDemandsPerRound / std::max<size_t>(1, stripes_.size()))
                              << std::min(round, kDoublings);
    std::vector<std::vector<ScaleDemand>> fresh(stripes_.size());
    std::atomic<uint64_t> unfit{kNoGroup}, negative_zeros{0};
    visit_([&](size_t stripe) { return stripes_[stripe].first_group < unfit; },
           [&](size_t index, const float* weights) {
             const Stripe stripe = stripes_[index];
             negative_zeros += static_cast<uint64_t>(std::count_if(weights, weights + stripe.groups * kGroupSize, [](float weight) {
               return std::bit_cast<uint32_t>(weight) == 0x80000000u;
             }));
             for_codebooks(shape_, stripe.first_group, stripe.groups, [&](size_t codebook, uint64_t first, size_t count) {
               const float* group = weights + (first - stripe.first_group) * kGroupSize;
               for (size_t g = 0, demands = 0; g < count && demands < per_stripe; ++g, group += kGroupSize) {
                 if (tables_[codebook].fitting_codes(group) != 0) continue;
                 ScaleSet scales = fitting_scales({group, kGroupSize}, largest_code_, rounding_);
                 if (scales.empty()) return lower_to(unfit, first + g);
                 fresh[index].push_back({first + g, std::move(scales)});
                 ++demands;
               }
             });
           });
    fresh_ = std::move(fresh);
    form_.negative_zeros = negative_zeros;
    return unfit;
  }

  // Equal demands are one. Returns the number of those that came from the last reading.
  size_t merge_fresh_demands(size_t codebook) {
    std::vector<ScaleDemand>& demands = demands_[codebook];
    const size_t before = demands.size();
    for (std::vector<ScaleDemand>& stripe : fresh_) {
      for (ScaleDemand& demand : stripe) {
        if (demand.group / shape_.groups_per_codebook() == codebook) demands.push_back(std::move(demand));
      }
    }
    const size_t fresh = demands.size() - before;
    const auto bounds = [](const ScaleSet& set) { return std::pair(set.front().least, set.back().most); };
    const auto before_other = [&](const ScaleDemand& a, const ScaleDemand& b) {
      if (a.scales == b.scales) return a.group < b.group;
      if (bounds(a.scales) != bounds(b.scales)) return bounds(a.scales) < bounds(b.scales);
      return std::lexicographical_compare(
          a.scales.begin(), a.scales.end(), b.scales.begin(), b.scales.end(),
          [](const ScaleRange& x, const ScaleRange& y) { return std::pair(x.least, x.most) < std::pair(y.least, y.most); });
    };
    std::sort(demands.begin(), demands.end(), before_other);
    demands.erase(std::unique(demands.begin(), demands.end(),
                              [](const ScaleDemand& a, const ScaleDemand& b) { return a.scales == b.scales; }),
                  demands.end());
    return fresh;
  }

  // With fewer scales than 27, the last is repeated.
  void set_codebook(size_t index) {
    const std::vector<float>& scales = covers_[index].scales;
    Codebook& codebook = form_.codebooks[index];
    codebook.fill(scales.empty() ? 0.0f : scales.back());
    std::copy(scales.begin(), scales.end(), codebook.begin());
    tables_[index] = ExactTable(codebook, form_.depth, rounding_);
  }

  const MatrixShape& shape_;
  Stripes stripes_;
  Rounding rounding_;
  int largest_code_;
  const VisitStripes& visit_;
  ExactForm form_;
  std::vector<ScaleCover> covers_;                 // [codebooks]
  std::vector<ExactTable> tables_;                 // [codebooks]
  std::vector<std::vector<ScaleDemand>> demands_;  // [codebooks]
  std::vector<std::vector<ScaleDemand>> fresh_;    // [stripes]: of the last reading
};

}  // namespace

ExactResult find_exact_form(const MatrixShape& shape, int most_depth, std::span<const Rounding> roundings,
                            const VisitStripes& visit) {
  ExactResult result;
  for (int depth = 1; depth <= most_depth; ++depth) {
    for (const Rounding rounding : roundings) {
      FormSearch search(shape, depth, rounding, visit);
      result = search.run();
      if (result.form) return result;
      const bool is_last = depth == most_depth && rounding == roundings.back();
      if (!is_last) continue;
      ExactMisfit& misfit = result.misfit;
      if (!misfit.lacks_scales) misfit.group = search.first_unfit_group();
      misfit.nearest = search.nearest_fit_of(misfit.group, misfit.lacks_scales);
    }
  }
  return result;
}

ExactTable::ExactTable(const Codebook& codebook, int depth, Rounding rounding) : largest_code_(largest_code(depth)) {
  add(0.0f, kAllScaleCodes);
  for (size_t scale_code = 0; scale_code < kCodebookSize; ++scale_code) {
    const float scale = codebook[scale_code];
    inverse_steps_[scale_code] = scale > 0.0f ? static_cast<float>(largest_code_) / scale : 0.0f;
    for (int code = 0; code <= largest_code_; ++code) {
      decoded_.push_back(decoded_weight(code, scale, largest_code_, rounding));
      if (decoded_.back() != 0.0f) add(decoded_.back(), 1u << scale_code);
    }
  }
}

void ExactTable::add(float magnitude, uint32_t scale_codes) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(magnitude);
  size_t slot = slot_of(bits);
  while (slots_[slot].magnitude != bits && slots_[slot].scale_codes != 0) slot = (slot + 1) % slots_.size();
  slots_[slot].magnitude = bits;
  slots_[slot].scale_codes |= scale_codes;
}

void ExactTable::encode(const float* group, uint32_t scale_code, int8_t* codes) const noexcept {
  const float* const decoded = decoded_.data() + scale_code * static_cast<size_t>(largest_code_ + 1);
  const auto most = static_cast<float>(largest_code_);
  for (size_t i = 0; i < kGroupSize; ++i) {
    const float magnitude = std::abs(group[i]);
    auto code = static_cast<int>(std::rint(std::min(magnitude * inverse_steps_[scale_code], most)));
    // Among FP16's smallest numbers, rounding moves a weight farther than to the next level.
    if (decoded[code] != magnitude)
      code = static_cast<int>(std::lower_bound(decoded, decoded + largest_code_ + 1, magnitude) - decoded);
    codes[i] = static_cast<int8_t>(group[i] < 0.0f ? -code : code);
  }
}

}  // namespace tritllm::codec
