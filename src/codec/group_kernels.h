// Owns the list of operations on groups that quantising spends its time in, and their specification in plain C++. Does not own
// their SIMD versions (src/kernels), which give the same bits but for add_product(): every one treats a group in the order that
// docs/codec.md fixes.
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

// How one group of columns is rounded in many rows, where errors are not independent of each other (feedback_rounding.h).
struct FeedbackGroup {
  const float* feedback;   // [16][16]: an error of weight i adds feedback[i][j] times itself to the target of each weight j > i
  const float* variances;  // [16]: what the squared error of each weight counts
  const float* codebook;   // [27]
  int largest_code;
};

// Where round_with_feedback() puts the rounding of each row.
struct RoundedGroup {
  int8_t* codes;         // [rows][16]
  uint8_t* scale_codes;  // [rows]
  float* decoded;        // [rows][16]
  float* errors;         // [rows][16]: target − decoded, the target with the feedback of the weights before it
  bool is_rounded;       // codes, scale codes and decoded hold a rounding already, which stays where no other has a smaller error
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

  // targets: [rows][16]. With each of the 27 scales in turn the weights are rounded one after the other, each to the level nearest
  // to its target; the scale of least Σ variance·error² wins.
  void (*round_with_feedback)(const FeedbackGroup& group, const float* targets, size_t rows, const RoundedGroup& out) noexcept;

  // out[r][c] += Σ_k left[r][k]·right[k][c], for r < rows, k < inner, c < columns, in ascending order of k. The one operation whose
  // bits may differ between instruction sets: some fuse product and sum.
  void (*add_product)(const float* left, size_t left_stride, const float* right, size_t right_stride, size_t inner, float* out,
                      size_t out_stride, size_t rows, size_t columns) noexcept;
};

// The specification.
const GroupKernels& scalar_group_kernels() noexcept;

}  // namespace tritllm::codec
