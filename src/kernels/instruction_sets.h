// Owns the declarations of the instruction sets' tables; each is defined in the folder of its name.
#pragma once

#include "codec/group_kernels.h"

namespace tritllm::kernels {

#if defined(__x86_64__)
namespace avx2 {
const codec::GroupKernels& group_kernels() noexcept;
}
namespace avx512 {
const codec::GroupKernels& group_kernels() noexcept;
}
#endif

}  // namespace tritllm::kernels
