// Owns the error statistics of a quantised matrix (docs/codec.md, "Statistics").
#pragma once

#include <cstdint>
#include <vector>

namespace tritllm::codec {

struct MatrixStats {
  uint64_t weights = 0;
  double weight_energy = 0, error_energy = 0, product = 0, decoded_energy = 0;
  float largest_error = 0;
  uint64_t clipped = 0;
  std::vector<uint64_t> level_histogram;  // [2·H + 1], from code −H up

  double relative_mse() const noexcept;  // 0 for a matrix of zeros
  double sqnr_db() const noexcept;       // rounded to four decimals; infinite if there is no error
  double cosine() const noexcept;        // 1 for a matrix of zeros
  // Adds the statistics of more weights of the same depth.
  void add(const MatrixStats& other);
};

double sqnr_db_from_relative_mse(double relative_mse) noexcept;

}  // namespace tritllm::codec
