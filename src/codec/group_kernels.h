// Owns the list of operations on groups that quantising spends its time in, and their specification in plain C++. Does not own
// their SIMD versions (src/kernels), which give the same bits: every one treats a group in the order that docs/codec.md fixes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tritllm::codec {

// Per-group figures of an encoding; each array holds one float a group. docs/codec.md, "Figures".
struct GroupFigures {
  float* weight_energy;   // Σ w²
  float* error_energy;    // Σ (w − w')²
  float* product;         // Σ w·w'
  float* decoded_energy;  // Σ w'²
  float* largest_error;   // max |w − w'|
  float* clipped;         // number of weights more than half a step beyond the outermost level
};

// weights: [groups][16], finite, magnitudes up to 65504. largest_code: H of the depth. codebook: [27].
struct GroupKernels {
  // Largest |w| of each group.
  void (*magnitudes)(const float* weights, size_t groups, float* magnitudes) noexcept;

  // Recipe uniform: the candidate scale of least squared error; 0 for zero groups.
  void (*candidate_scales)(const float* weights, size_t groups, int largest_code, float* scales) noexcept;

  // Number of the 26 thresholds below each scale.
  void (*nearest_entries)(const float* scales, size_t groups, const float* thresholds, uint8_t* entries) noexcept;

  // Recipe optimal: the step of least emphasised error over all steps, with its curvature Σ h·q².
  void (*best_steps)(const float* weights, size_t groups, int largest_code, float* steps, float* curvatures) noexcept;

  // Recipe optimal: the entry of least emphasised error; 0 for zero groups.
  void (*best_entries)(const float* weights, size_t groups, int largest_code, const float* codebook, uint8_t* entries) noexcept;

  // Recipe optimal: Σ h·|w|·q and Σ h·q² with each group's entry, from which Lloyd's rounds move the codebook.
  void (*step_sums)(const float* weights, size_t groups, int largest_code, const float* codebook, const uint8_t* entries,
                    float* numerators, float* denominators) noexcept;

  // Codes [groups][16] with each group's entry, and the figures.
  void (*encode)(const float* weights, size_t groups, int largest_code, const float* codebook, const uint8_t* entries,
                 int8_t* codes, const GroupFigures& figures) noexcept;
};

// The specification.
const GroupKernels& scalar_group_kernels() noexcept;

}  // namespace tritllm::codec
