// Owns the check of a matrix's slice, the same for every backend. Does not own what a backend does with it.
#pragma once

#include <cstdint>

#include "backend/backend.h"

namespace tritllm {

// The slice of a matrix of this shape, with numbers in place of UINT64_MAX. Throws an Error where it does not lie in the matrix, or
// its columns cut through a group.
MatrixSlice resolved_slice(MatrixSlice slice, uint64_t rows, uint64_t columns);

}  // namespace tritllm
