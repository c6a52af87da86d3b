// Owns the quantising of one matrix: survey every group, choose the codebook, encode. It never holds the matrix: the caller brings
// blocks of groups in any order and from several threads, and gets the same bytes for every order and number of threads.
// Does not own reading, writing or threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "codec/codebook.h"
#include "codec/config.h"
#include "codec/geometry.h"
#include "codec/group_kernels.h"

namespace tritllm::codec {

// The unit of work, and of summing figures: whole lines, and whole groups of every SIMD width.
inline constexpr size_t kBlockLines = 1024;
inline constexpr size_t kBlockGroups = kBlockLines * kLineGroups;
inline constexpr size_t kBlockWeights = kBlockGroups * kGroupSize;

// Index of the first weight that is NaN, infinite or beyond FP16's range.
std::optional<size_t> find_unusable_weight(std::span<const float> weights) noexcept;

// Runs body(i) for every i below count, in any order, perhaps on several threads.
using ParallelLoop = std::function<void(size_t count, const std::function<void(size_t)>& body)>;

// Writes the 16 weights of one group (zeros beyond the row's end); called from the loop's threads.
using ReadGroup = std::function<void(uint64_t group, float* weights)>;

struct MatrixFigures {
  uint64_t weights = 0;
  double weight_energy = 0, error_energy = 0, product = 0, decoded_energy = 0;
  float largest_error = 0;
  uint64_t clipped = 0;
  std::vector<uint64_t> level_histogram;  // [2·H + 1], from code −H up

  double relative_mse() const noexcept;  // 0 for a matrix of zeros
  double sqnr_db() const noexcept;       // rounded to four decimals; infinite where there is no error
  double cosine() const noexcept;        // 1 for a matrix of zeros
  // Joins the figures of another matrix of the same depth (or of none so far).
  void add(const MatrixFigures& other);
};

double sqnr_db_from_relative_mse(double relative_mse) noexcept;

// One encoded block; reused from block to block.
struct EncodedBlock {
  size_t lines = 0;
  std::vector<int8_t> codes;                 // [lines·5][16]
  std::vector<uint8_t> entries;              // [lines·5]
  std::vector<std::vector<uint8_t>> planes;  // [depth][lines·16], most significant first
  std::vector<uint8_t> scales;               // [lines][3]
};

class MatrixQuantizer {
 public:
  MatrixQuantizer(Config config, MatrixShape shape, const GroupKernels& kernels);

  size_t blocks() const noexcept { return blocks_.size(); }
  // Groups of block `block`, those that fill up its last line included; they are zeros.
  size_t padded_groups(size_t block) const noexcept;

  // Step 1, once for each block, from any thread. weights: [padded_groups(block)][16].
  void survey(size_t block, const float* weights);

  // Step 2, once, after every survey.
  void choose_codebook(const ReadGroup& read, const ParallelLoop& loop);
  const Codebook& codebook() const noexcept { return codebook_; }

  // Step 3, once for each block, from any thread.
  void encode(size_t block, const float* weights, EncodedBlock& out);

  // After every encode.
  MatrixFigures figures() const;

 private:
  struct Sample;
  Sample take_sample(const ReadGroup& read, const ParallelLoop& loop) const;
  void choose_optimal_codebook(const ReadGroup& read, const ParallelLoop& loop);
  void improve_codebook(const Sample& sample, const ParallelLoop& loop);
  MatrixFigures sum_figures(const GroupFigures& figures, const EncodedBlock& encoded, size_t block) const;

  Config config_;
  MatrixShape shape_;
  const GroupKernels& kernels_;
  int largest_code_;
  std::vector<float> surveyed_;         // [groups]: scale (uniform) or largest magnitude (optimal)
  std::vector<float> block_magnitude_;  // [blocks]: largest magnitude
  Codebook codebook_{};
  std::array<float, kCodebookSize - 1> thresholds_{};
  std::vector<MatrixFigures> blocks_;
};

}  // namespace tritllm::codec
