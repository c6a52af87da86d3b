// Owns the count of what the whole test executable allocates.
#pragma once

#include <cstddef>

namespace tritllm {

// Calls of operator new so far.
size_t allocation_count();

}  // namespace tritllm
