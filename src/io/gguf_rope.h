// Owns the rotary scaling that a GGUF file states in its metadata or in its table of factors, as config.json's rope_scaling.
#pragma once

#include "core/json_fwd.h"
#include "io/gguf.h"
#include "io/gguf_family.h"

namespace tritllm {

// Null where positions are not scaled.
Json rope_scaling_of(const GgufFile& file, const GgufDimensions& dimensions, float rope_theta);

}  // namespace tritllm
