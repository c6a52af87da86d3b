// Owns the declarations of the instruction sets' tables; each is defined in the folder of its name.
#pragma once

#include "codec/group_kernels.h"
#include "kernels/tensor_kernels.h"
#include "kernels/ternary_kernels.h"

namespace tritllm::kernels {

namespace scalar {
const TensorKernels& tensor_kernels() noexcept;
const TernaryKernels& ternary_kernels() noexcept;
}  // namespace scalar
#if defined(__x86_64__)
namespace avx2 {
const codec::GroupKernels& group_kernels() noexcept;
const TensorKernels& tensor_kernels() noexcept;
const TernaryKernels& ternary_kernels() noexcept;
}  // namespace avx2
namespace avx512 {
const codec::GroupKernels& group_kernels() noexcept;
const TensorKernels& tensor_kernels() noexcept;
const TernaryKernels& ternary_kernels() noexcept;
}  // namespace avx512
namespace avx512vbmi {
const TernaryKernels& ternary_kernels() noexcept;
}  // namespace avx512vbmi
namespace amx {
const TernaryKernels& ternary_kernels() noexcept;
// Whether the processor has AMX and the system lets this process use it, which must be asked for.
bool supported() noexcept;
}  // namespace amx
#elif defined(__aarch64__)
namespace neon {
const codec::GroupKernels& group_kernels() noexcept;
const TensorKernels& tensor_kernels() noexcept;
const TernaryKernels& ternary_kernels() noexcept;
}  // namespace neon
#endif

}  // namespace tritllm::kernels
