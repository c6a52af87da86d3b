// Owns the reading of memory at full speed, against which products are measured.
#pragma once

#include "backend/cuda/launch.h"

namespace tritllm::cuda {

Status read_memory(const DeviceTraits& traits, const void* from, size_t bytes, uint32_t* out, Stream stream);

}  // namespace tritllm::cuda
