// Owns recipe exact: matrices whose weights are ternary already. Finds the smallest depth and the codebooks that give every weight
// of the source back, and encodes with them. Does not own reading or threads.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "codec/codebook.h"
#include "codec/exact_scales.h"
#include "codec/grouping.h"

namespace tritllm::codec {

// What a matrix that is ternary is made of.
struct ExactForm {
  int depth = 0;
  Rounding rounding = Rounding::kNone;
  std::vector<Codebook> codebooks;
  uint64_t negative_zeros = 0;  // weights of −0: a code of 0 gives +0 back
};

// Why a matrix is not ternary: the first group that no scale fits, or one that none of 27 scales fits which others need.
struct ExactMisfit {
  int depth = 0;  // the largest that was tried
  uint64_t group = 0;
  bool lacks_scales = false;  // there are scales that fit the group, but not among the 27
  GroupFit nearest;
};

struct ExactResult {
  std::optional<ExactForm> form;
  ExactMisfit misfit;  // where there is no form
};

// Calls body(stripe, weights) once for each stripe that is wanted when its turn comes, in any order, perhaps on several threads.
// weights: [padded_groups()][16], finite and at most 65504 in magnitude.
using VisitStripes = std::function<void(const std::function<bool(size_t stripe)>& wanted,
                                        const std::function<void(size_t stripe, const float* weights)>& body)>;

// Tries depths from 1 to most_depth, at each the roundings in their order. The result depends on the matrix alone. Reads the matrix
// a few times, and hardly more than its beginning for a depth that does not fit.
ExactResult find_exact_form(const MatrixShape& shape, int most_depth, std::span<const Rounding> roundings,
                            const VisitStripes& visit);

// The decoded magnitudes of a codebook, and which of its scales have each.
class ExactTable {
 public:
  ExactTable() : ExactTable(Codebook{}, 1, Rounding::kNone) {}
  ExactTable(const Codebook& codebook, int depth, Rounding rounding);

  // A bit for each scale code with which some codes give all 16 weights back.
  uint32_t fitting_codes(const float* group) const noexcept {
    uint32_t fitting = kAllScaleCodes;
    for (size_t i = 0; i < kGroupSize; ++i) fitting &= scale_codes_of(group[i]);
    return fitting;
  }

  // Writes the 16 codes of a group that has this scale code among its fitting ones.
  void encode(const float* group, uint32_t scale_code, int8_t* codes) const noexcept;

 private:
  static constexpr uint32_t kAllScaleCodes = (1u << kCodebookSize) - 1;
  static constexpr int kSlotBits = 12;  // at most 27·40 + 1 magnitudes in 4096 slots

  struct Slot {
    uint32_t magnitude = 0;  // bits; empty where no scale has it
    uint32_t scale_codes = 0;
  };

  static size_t slot_of(uint32_t magnitude) noexcept { return (magnitude * 0x9e3779b1u) >> (32 - kSlotBits); }

  uint32_t scale_codes_of(float weight) const noexcept {
    const uint32_t magnitude = std::bit_cast<uint32_t>(weight) & 0x7fffffffu;
    size_t slot = slot_of(magnitude);
    while (slots_[slot].magnitude != magnitude && slots_[slot].scale_codes != 0) slot = (slot + 1) % slots_.size();
    return slots_[slot].scale_codes;
  }

  void add(float magnitude, uint32_t scale_codes) noexcept;

  int largest_code_;
  std::array<float, kCodebookSize> inverse_steps_{};
  std::vector<float> decoded_;  // [27][largest_code + 1]: magnitude of each code
  std::array<Slot, size_t{1} << kSlotBits> slots_{};
};

}  // namespace tritllm::codec
