// Owns the declarations of attention's specification.
#pragma once

#include "kernels/attention.h"

namespace tritllm::kernels::scalar {

template <CacheType kType>
void attend(const AttentionTask& task) noexcept;

void merge(const AttentionState& span, size_t rows, size_t head_stride, const AttentionState& into) noexcept;

}  // namespace tritllm::kernels::scalar
