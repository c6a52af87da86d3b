// Owns arithmetic on sizes that come from a file or a request: it never wraps. Every product of a shape goes through here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace tritllm {

inline std::optional<uint64_t> checked_multiply(uint64_t a, uint64_t b) noexcept {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) noexcept {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

// Product of all dimensions (1 for a scalar's empty shape), or nothing where it does not fit 64 bits. A zero dimension makes
// zero, however large the others are.
inline std::optional<uint64_t> checked_product(std::span<const uint64_t> shape) noexcept {
  for (const uint64_t dimension : shape) {
    if (dimension == 0) return 0;
  }
  std::optional<uint64_t> product = 1;
  for (const uint64_t dimension : shape) {
    product = checked_multiply(*product, dimension);
    if (!product) return std::nullopt;
  }
  return product;
}

}  // namespace tritllm
