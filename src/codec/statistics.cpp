#include "codec/statistics.h"

#include <algorithm>
#include <cmath>

namespace tritllm::codec {

double sqnr_db_from_relative_mse(double relative_mse) noexcept {
  if (relative_mse <= 0.0) return INFINITY;
  return std::round(-10.0 * std::log10(relative_mse) * 1e4) / 1e4;
}

double MatrixStats::relative_mse() const noexcept { return weight_energy > 0.0 ? error_energy / weight_energy : 0.0; }

double MatrixStats::sqnr_db() const noexcept { return sqnr_db_from_relative_mse(relative_mse()); }

double MatrixStats::cosine() const noexcept {
  const double norm = std::sqrt(weight_energy * decoded_energy);
  if (norm > 0.0) return product / norm;
  return weight_energy > 0.0 ? 0.0 : 1.0;
}

void MatrixStats::add(const MatrixStats& other) {
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

}  // namespace tritllm::codec
