// Owns the choice of CPU inner loops: which instruction sets this binary holds, which this machine runs, and which one is in force.
#pragma once

#include <span>
#include <string_view>

#include "codec/group_kernels.h"
#include "kernels/tensor_kernels.h"
#include "kernels/ternary_kernels.h"

namespace tritllm::kernels {

struct KernelTable {
  const char* name;                   // "scalar", "avx2", "avx512", "avx512vbmi", "amx", "neon"
  const codec::GroupKernels* groups;  // the codec's
  const TensorKernels* tensors;       // the forward pass's, in floats
  const TernaryKernels* ternary;      // its products with ternary matrices, in integers
};

// Every table that this machine can run, the slowest first; scalar, the specification, is always there.
std::span<const KernelTable> supported_tables();

// The table of this name. Throws an Error of kUsage where the name is unknown or the machine lacks it: never another one instead.
const KernelTable& table_named(std::string_view name);

// The fastest one, or the one that TRITLLM_ISA names.
const KernelTable& active_table();

}  // namespace tritllm::kernels
