// Owns the elements of the key/value cache on the device: where they are, how a head's are stored, and how eight of them become
// halves. Numbers and scales are those of kernels/attention.h.
#pragma once

#include <cuda_fp8.h>

#include <type_traits>

#include "backend/cuda/launch.h"
#include "backend/cuda/layout.h"
#include "backend/cuda/ptx.cuh"

namespace tritllm::cuda {

struct Float8 {
  uint8_t bits;
};
struct Int8 {
  int8_t code;
};

template <typename Element>
inline constexpr bool kHasScales = sizeof(Element) == 1;

// halves_of() gives FP8 numbers 2^8 times too small, as their bits come out.
template <typename Element>
inline constexpr float kUnit = std::is_same_v<Element, Float8> ? 256.0f : 1.0f;

// Of a head in a page. `part` 0: keys, 1: values.
TRIT_DEVICE std::byte* part_of_page(const CacheView& cache, int layer, uint32_t page, int head, int part) {
  return cache.data + (((static_cast<int64_t>(page) * cache.layers + layer) * cache.heads + head) * 2 + part) * cache.part_bytes();
}

// [kPagePositions], where elements have eight bits.
TRIT_DEVICE __half* scales_of(const CacheView& cache, std::byte* part) {
  return reinterpret_cast<__half*>(part + cache.part_elements());
}
TRIT_DEVICE const __half* scales_of(const CacheView& cache, const std::byte* part) {
  return reinterpret_cast<const __half*>(part + cache.part_elements());
}

// Eight elements as they lie in memory.
template <typename Element>
struct Eight {
  using Words = std::conditional_t<kHasScales<Element>, uint2, uint4>;
  Words words;

  // `from` is aligned to eight elements.
  TRIT_DEVICE static Eight load(const Element* from) { return {*reinterpret_cast<const Words*>(from)}; }
  TRIT_DEVICE static Eight zeros() { return {}; }
};

// The codes over kUnit, in the order of memory.
TRIT_DEVICE uint4 halves_of(const Eight<__half>& eight) { return eight.words; }

TRIT_DEVICE uint4 halves_of(const Eight<Int8>& eight) {
  const uint2 codes = eight.words;
  // A code plus 128 in the low byte of 1024 as a half.
  const auto pair = [](uint32_t four, uint32_t places) {
    constexpr uint32_t kMinus1152 = 0xe480e480;
    return add_halves(__byte_perm(four ^ 0x80808080u, 0x64646464u, places), kMinus1152);
  };
  return make_uint4(pair(codes.x, 0x4140), pair(codes.x, 0x4342), pair(codes.y, 0x4140), pair(codes.y, 0x4342));
}

TRIT_DEVICE uint4 halves_of(const Eight<Float8>& eight) {
  const uint2 codes = eight.words;
  // Sign and the rest of a code where a half has its sign and the lower bits of its exponent.
  const auto pair = [](uint32_t four, uint32_t places) {
    const uint32_t bytes = __byte_perm(four, 0, places);
    return (bytes & 0x80008000u) | (bytes >> 1 & 0x3f803f80u);
  };
  return make_uint4(pair(codes.x, 0x1404), pair(codes.x, 0x3424), pair(codes.y, 0x1404), pair(codes.y, 0x3424));
}

TRIT_DEVICE uint4 times(const uint4& halves, half2 factor) {
  const uint32_t word = as_word(factor);
  return make_uint4(multiply_halves(halves.x, word), multiply_halves(halves.y, word), multiply_halves(halves.z, word),
                    multiply_halves(halves.w, word));
}

// Times this, halves_of() gives elements.
template <typename Element>
TRIT_DEVICE half2 factor_of(__half scale) {
  return __half2half2(__hmul(scale, __float2half_rn(kUnit<Element>)));
}

// A warp stores the key or value of one head and position: value_of(i) for i < head_width, then zeros.
template <typename ValueOf>
TRIT_DEVICE void store_head(const CacheView& cache, std::byte* part, int position, const ValueOf& value_of, int lane) {
  const auto store = [&](auto* elements, const auto& convert) {
    auto* const to = elements + position * cache.head_stride;
    for (int i = lane; i < cache.head_stride; i += kLanes) to[i] = convert(i < cache.head_width ? value_of(i) : 0.0f);
  };
  if (cache.element == CacheElement::kFloat32) {
    return store(reinterpret_cast<float*>(part), [](float value) { return value; });
  }
  if (cache.element == CacheElement::kFloat16) {
    return store(reinterpret_cast<__half*>(part), [](float value) { return __float2half_rn(value); });
  }
  float largest = 0.0f;
  bool finite = true;
  for (int i = lane; i < cache.head_width; i += kLanes) {
    const float value = value_of(i);
    largest = fmaxf(largest, fabsf(value)), finite = finite && isfinite(value);
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  finite = __all_sync(0xffffffffu, finite);
  const bool integers = cache.element == CacheElement::kInt8;
  const __half rounded = finite ? __float2half_ru(largest / (integers ? 127.0f : 448.0f)) : __ushort_as_half(0x7e00);
  if (lane == 0) scales_of(cache, part)[position] = rounded;
  const float scale = __half2float(rounded);
  const auto scaled = [&](float value) { return scale > 0.0f ? value / scale : 0.0f; };
  if (integers) {
    store(reinterpret_cast<int8_t*>(part), [&](float value) { return static_cast<int8_t>(__float2int_rn(scaled(value))); });
  } else {
    store(reinterpret_cast<uint8_t*>(part),
          [&](float value) { return __nv_cvt_float_to_fp8(scaled(value), __NV_SATFINITE, __NV_E4M3); });
  }
}

// Calls body with the cache's element type.
template <typename Body>
auto with_element_type(const CacheView& cache, const Body& body) {
  switch (cache.element) {
    case CacheElement::kFloat32: return body(float{});
    case CacheElement::kFloat16: return body(__half{});
    case CacheElement::kFloat8: return body(Float8{});
    default: return body(Int8{});
  }
}

}  // namespace tritllm::cuda
