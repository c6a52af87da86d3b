// Owns the search for the ternary form of a tensor that is ternary already, and the error that says why another one is not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codec/exact_form.h"
#include "core/error.h"
#include "core/thread_pool.h"
#include "io/source_tensor.h"
#include "tasks/matrix_job.h"

namespace tritllm {

// Depths up to most_depth. `on_weights` is called with 0, so that it may end the search.
codec::ExactResult find_exact_form(const SourceTensor& tensor, int most_depth, ThreadPool& pool, const OnWeights& on_weights);

// Names the group and what comes nearest to it.
Error not_ternary(const SourceTensor& tensor, const codec::ExactMisfit& misfit, const std::vector<std::string>& others = {});

}  // namespace tritllm
