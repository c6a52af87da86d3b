// Owns the work on one tensor: reading it in stripes, for all configurations at the same time, and writing what each of them makes
// of it. Does not own which tensors there are, nor the record of what is done (config_run.h).
#pragma once

#include <cstdint>
#include <functional>
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
  const codec::ExactForm* exact = nullptr;  // of recipe exact: the form that was found, of this depth
};

struct MatrixResult {
  codec::MatrixStats stats;
  double thread_seconds = 0;  // spent on this configuration, summed over the threads
};

// Called from time to time on the calling thread, with the number of weights handled since the last call.
using OnWeights = std::function<void(uint64_t weights)>;

// Throws an Error that names tensor, row and column where a weight is not finite or beyond FP16's range.
std::vector<MatrixResult> quantize_matrix(const SourceTensor& tensor, std::span<const MatrixTarget> targets,
                                          const codec::GroupKernels& kernels, ThreadPool& pool, const OnWeights& on_weights);

// Stores a tensor that is not quantised: floating point as FP16, anything else unchanged.
void copy_kept_tensor(const SourceTensor& tensor, std::span<const TensorSinks> sinks, ThreadPool& pool,
                      const OnWeights& on_weights);

// The type that a kept tensor is stored as.
ElementType kept_type(ElementType source) noexcept;

// Bytes of memory that quantize_matrix() takes for a matrix, without its threads' buffers.
uint64_t matrix_memory(const codec::MatrixShape& shape, size_t configs) noexcept;
// Bytes of the buffers that each thread needs, for a matrix of this shape or any kept tensor.
uint64_t thread_memory(const codec::MatrixShape& shape) noexcept;

}  // namespace tritllm
