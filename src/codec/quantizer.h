// Owns the quantising of one matrix: collect a scale of every group, choose the codebooks, encode. It never holds the matrix: the
// caller brings stripes in any order and from several threads, and gets the same bytes for every order and number of threads.
// Does not own reading, writing or threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "codec/codebook.h"
#include "codec/config.h"
#include "codec/exact_form.h"
#include "codec/geometry.h"
#include "codec/group_kernels.h"
#include "codec/grouping.h"
#include "codec/statistics.h"

namespace tritllm::codec {

// Index of the first weight that is NaN, infinite or larger than `largest` in magnitude.
std::optional<size_t> find_unusable_weight(std::span<const float> weights, float largest) noexcept;

// Runs body(i) for every i below count, in any order, perhaps on several threads.
using ParallelLoop = std::function<void(size_t count, const std::function<void(size_t)>& body)>;

// Writes the 16 weights of one group (zeros beyond the row's end); called from the loop's threads.
using ReadGroup = std::function<void(uint64_t group, float* weights)>;

// What is known about the inputs that the matrix will be multiplied with.
struct ColumnStatistics {
  // How much a squared error in each column counts: [codebooks][columns], from kLeastImportance to kMostImportance. Empty: unknown.
  std::span<const float> importance;
};

// Within these bounds no sum over a group overflows or loses precision to subnormal numbers. A mean of 1 lies well inside.
inline constexpr float kLeastImportance = 0x1p-20f, kMostImportance = 0x1p20f;

// The codes of a matrix that were chosen elsewhere: a codebook for the whole matrix. The spans outlive the quantiser.
struct ChosenCodes {
  Codebook codebook{};
  std::span<const int8_t> codes;         // [groups][16], padding included
  std::span<const uint8_t> scale_codes;  // [groups]
};

// One encoded stripe; reused from stripe to stripe.
struct EncodedStripe {
  size_t lines = 0;
  std::vector<int8_t> codes;                 // [lines·5][16]
  std::vector<uint8_t> scale_codes;          // [lines·5]
  std::vector<std::vector<uint8_t>> planes;  // [depth][lines·16], most significant first
  std::vector<uint8_t> scales;               // [lines][3]
};

class MatrixQuantizer {
 public:
  // `statistics` must outlive the quantiser. Throws an Error of kUsage where an importance is out of bounds, of another size than
  // the matrix, or given to a recipe that cannot use it.
  MatrixQuantizer(Config config, MatrixShape shape, const GroupKernels& kernels, const ColumnStatistics& statistics = {});

  // Recipe exact. `form` was found for this matrix.
  MatrixQuantizer(const ExactForm& form, MatrixShape shape, const GroupKernels& kernels);

  // Packs codes as they are. Throws an Error of kUsage where their number is not the matrix's.
  MatrixQuantizer(Config config, const ChosenCodes& chosen, MatrixShape shape, const GroupKernels& kernels);

  const Stripes& stripes() const noexcept { return stripes_; }

  // Whether step 1 is needed.
  bool collects_scales() const noexcept { return exact_tables_.empty() && !chosen_; }

  // Step 1, once for each stripe, from any thread. weights: [padded_groups()][16] of the stripe.
  void collect_scales(size_t stripe, const float* weights);

  // Step 2, once, after every collect_scales().
  void choose_codebooks(const ReadGroup& read, const ParallelLoop& loop);
  std::span<const Codebook> codebooks() const noexcept { return codebooks_; }

  // Step 3, once for each stripe, from any thread.
  void encode(size_t stripe, const float* weights, EncodedStripe& out);

  // After every encode().
  MatrixStats stats() const;

 private:
  // What all ways of quantising begin with.
  MatrixQuantizer(Config config, ScaleSearch search, MatrixShape shape, const GroupKernels& kernels,
                  std::vector<Codebook> codebooks);

  struct Sample;
  std::span<const float> scales_of(size_t codebook) const noexcept;
  void choose_geometric_codebooks();
  Sample take_sample(size_t codebook, const ReadGroup& read, const ParallelLoop& loop) const;
  Codebook clustered_codebook_of(const Sample& sample, const ParallelLoop& loop, float largest_scale) const;
  void improve_codebook(const Sample& sample, const ParallelLoop& loop, float largest_scale, Codebook& codebook) const;
  const float* importance_of(size_t codebook, uint64_t group) const noexcept;
  void choose_scale_codes(size_t codebook, uint64_t first_group, size_t groups, const float* weights, uint8_t* scale_codes) const;
  void encode_exactly(size_t codebook, uint64_t first_group, size_t groups, const float* weights, uint8_t* scale_codes,
                      int8_t* codes, const GroupStats& stats) const;
  void take_chosen(uint64_t first_group, size_t groups, const float* weights, uint8_t* scale_codes, int8_t* codes,
                   const GroupStats& stats) const;
  MatrixStats sum_stats(const GroupStats& stats, const EncodedStripe& encoded, const Stripe& stripe) const;

  Config config_;
  ScaleSearch search_;
  MatrixShape shape_;
  Stripes stripes_;
  const GroupKernels& kernels_;
  int largest_code_;
  std::vector<float> importance_;            // [codebooks][groups of a row][16]; empty: unknown
  std::vector<float> scales_;                // [groups]: candidate scale, or largest magnitude (ScaleSearch::kLeastError)
  std::vector<std::vector<float>> largest_;  // [stripes][codebooks that the stripe touches]: largest magnitude
  std::vector<Codebook> codebooks_;
  std::vector<ExactTable> exact_tables_;  // [codebooks] of recipe exact, else empty
  std::optional<ChosenCodes> chosen_;
  std::vector<MatrixStats> stats_;  // [stripes]
};

}  // namespace tritllm::codec
