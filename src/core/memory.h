// Owns the question how much memory this process may still take.
#pragma once

#include <cstdint>

namespace tritllm {

// The least of what the machine has to give without swapping, what the process's control groups leave, and what its address space
// may grow by. As much as a number can say where the system tells none of them. Memory that is given back at need, such as pages of
// files, counts as free.
uint64_t available_memory();

}  // namespace tritllm
