// Owns the work on one tensor: reading it in stripes, for all configurations at the same time, and writing what each of them makes
// of it. Does not own which tensors there are, nor the record of what is done (config_run.h).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codec/config.h"
#include "codec/exact_form.h"
#include "codec/group_kernels.h"
#include "codec/quantizer.h"
#include "core/thread_pool.h"
#include "io/folder_writer.h"
#include "io/source_tensor.h"
#include "tasks/stripe_reader.h"

namespace tritllm {

// Where one configuration wants a tensor; a null pointer where it does not.
struct TensorSinks {
  const FolderWriter* packed = nullptr;
  const FolderWriter* plain = nullptr;  // FP16
};

struct MatrixTarget {
  codec::Config config;  // with the depth of this matrix
  TensorSinks sinks;
  const codec::ExactForm* exact = nullptr;     // of recipe exact: the form that was found, of this depth
  const codec::ChosenCodes* chosen = nullptr;  // of a calibrated matrix
};

// What the source loses in the FP16 folder: rounding to FP16 comes on top of a matrix's error, and FP16 has no numbers below 2^-24.
struct PlainError {
  double weight_energy = 0, error_energy = 0;
  float largest_error = 0;

  void add(float weight, float stored) noexcept {
    const double error = static_cast<double>(weight) - stored;
    weight_energy += static_cast<double>(weight) * weight;
    error_energy += error * error;
    largest_error = std::max(largest_error, static_cast<float>(std::abs(error)));
  }
  void add(const PlainError& other) noexcept {
    weight_energy += other.weight_energy;
    error_energy += other.error_energy;
    largest_error = std::max(largest_error, other.largest_error);
  }
  double relative_mse() const noexcept { return weight_energy > 0 ? error_energy / weight_energy : 0.0; }
};

struct MatrixResult {
  codec::MatrixStats stats;
  std::optional<PlainError> plain;  // where there is an FP16 folder
  double thread_seconds = 0;        // spent on this configuration, summed over the threads
};

// Called from time to time on the calling thread, with the number of weights handled since the last call.
using OnWeights = std::function<void(uint64_t weights)>;

// Throws an Error that names tensor, row and column where a weight is not finite or larger than what its folders can hold.
std::vector<MatrixResult> quantize_matrix(const SourceTensor& tensor, std::span<const MatrixTarget> targets,
                                          const codec::GroupKernels& kernels, ThreadPool& pool, const OnWeights& on_weights);

// Stores a tensor that is not quantised: floating point as `type`, kept_type() of the source's, anything else unchanged. Returns
// what FP16 loses, where that is its type.
std::optional<PlainError> copy_kept_tensor(const SourceTensor& tensor, ElementType type, std::span<const TensorSinks> sinks,
                                           ThreadPool& pool, const OnWeights& on_weights);

// The type that a kept tensor is stored as: FP16 for floating point, unless that cannot hold it.
ElementType kept_type(ElementType source, bool is_beyond_half = false) noexcept;

// Whether a floating-point tensor holds a finite number beyond FP16's range.
bool is_beyond_half(const SourceTensor& tensor, ThreadPool& pool);

// Bytes of memory that quantize_matrix() takes for a matrix, without its threads' buffers.
uint64_t matrix_memory(const codec::MatrixShape& shape, size_t configs) noexcept;
// Bytes of the buffers that each thread needs, for a matrix of this shape or any kept tensor.
uint64_t thread_memory(const codec::MatrixShape& shape) noexcept;

}  // namespace tritllm
