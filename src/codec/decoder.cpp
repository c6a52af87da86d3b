#include "codec/decoder.h"

#include <type_traits>

#include "codec/geometry.h"
#include "core/half.h"

namespace tritllm::codec {

template <typename Value>
Decoder<Value>::Decoder(const Codebook& codebook, int depth)
    : levels_(2 * static_cast<size_t>(largest_code(depth)) + 1), values_(kCodebookSize * levels_) {
  const int largest = largest_code(depth);
  auto value = values_.begin();
  for (const float scale : codebook) {
    const float step = scale / static_cast<float>(largest);
    for (int code = -largest; code <= largest; ++code) {
      const float weight = static_cast<float>(code) * step;
      if constexpr (std::is_same_v<Value, float>) *value++ = weight;
      else *value++ = half_from_float(weight);
    }
  }
}

template <typename Value>
void Decoder<Value>::decode(const int8_t* codes, const uint8_t* scale_codes, size_t groups, Value* out) const noexcept {
  for (size_t g = 0; g < groups; ++g, codes += kGroupSize, out += kGroupSize) {
    const Value* const zero = values_.data() + scale_codes[g] * levels_ + levels_ / 2;
    for (size_t i = 0; i < kGroupSize; ++i) out[i] = zero[codes[i]];
  }
}

template class Decoder<float>;
template class Decoder<uint16_t>;

}  // namespace tritllm::codec
