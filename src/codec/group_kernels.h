// Owns the list of operations on groups that quantising spends its time in, and their specification in plain C++. Does not own
// their SIMD versions (src/kernels), which give the same bits: every one treats a group in the order that docs/codec.md fixes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tritllm::codec {

// The statistics of an encoding by group; each array holds one float a group. docs/codec.md, "Statistics".
struct GroupStats {
  float* weight_energy;   // Σ w²
  float* error_energy;    // Σ (w − w')²
  float* product;         // Σ w·w'
  float* decoded_energy;  // Σ w'²
  float* largest_error;   // max |w − w'|
  float* clipped;         // number of weights more than half a step beyond the outermost level
};

// weights: [groups][16], finite, magnitudes up to 65504. largest_code: H of the depth. codebook: [27].
// importance: [groups][16], what the squared error of each weight counts, finite and not negative; nullptr where nothing is known,
// and errors count by the emphasis that docs/codec.md derives from the weights.
struct GroupKernels {
  // Largest |w| of each group.
  void (*magnitudes)(const float* weights, size_t groups, float* magnitudes) noexcept;

  // ScaleSearch::kCandidates: the candidate scale of least squared error; 0 for zero groups.
  void (*candidate_scales)(const float* weights, size_t groups, int largest_code, float* scales) noexcept;

  // ScaleSearch::kCandidates: the number of the 26 thresholds below each scale.
  void (*nearest_scale_codes)(const float* scales, size_t groups, const float* thresholds, uint8_t* scale_codes) noexcept;

  // ScaleSearch::kLeastError: the step of least weighted error over all steps, with its curvature Σ h·q².
  void (*best_steps)(const float* weights, const float* importance, size_t groups, int largest_code, float* steps,
                     float* curvatures) noexcept;

  // ScaleSearch::kLeastError: the scale code of least weighted error; 0 for zero groups.
  void (*best_scale_codes)(const float* weights, const float* importance, size_t groups, int largest_code, const float* codebook,
                           uint8_t* scale_codes) noexcept;

  // ScaleSearch::kLeastError: Σ h·|w|·q and Σ h·q² with each group's scale, from which Lloyd's algorithm moves the codebook.
  void (*step_sums)(const float* weights, const float* importance, size_t groups, int largest_code, const float* codebook,
                    const uint8_t* scale_codes, float* numerators, float* denominators) noexcept;

  // Codes [groups][16] with each group's scale, and the statistics. With a given scale the nearest level is the best one, whatever
  // the importance.
  void (*encode)(const float* weights, size_t groups, int largest_code, const float* codebook, const uint8_t* scale_codes,
                 int8_t* codes, const GroupStats& stats) noexcept;
};

// The specification.
const GroupKernels& scalar_group_kernels() noexcept;

}  // namespace tritllm::codec
