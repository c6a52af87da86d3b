// Owns the way back from codes to numbers: w' = q·(scale/H), in float32 and rounded once more to FP16. A matrix has at most 27·81
// different weights, so they are computed once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codec/codebook.h"

namespace tritllm::codec {

template <typename Value>
class Decoder {
 public:
  Decoder(const Codebook& codebook, int depth);

  // out: [groups][16].
  void decode(const int8_t* codes, const uint8_t* scale_codes, size_t groups, Value* out) const noexcept;

 private:
  size_t levels_;
  std::vector<Value> values_;  // [27][levels]
};

using FloatDecoder = Decoder<float>;
using HalfDecoder = Decoder<uint16_t>;

}  // namespace tritllm::codec
