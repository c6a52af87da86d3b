// Owns the byte that holds five trits, and the lines of groups that are made of such bytes (docs/format.md, "Weights").
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "codec/geometry.h"

namespace tritllm::codec {

// The byte of five trits, given as v = Σ (t_i + 1)·3^i in 0..242.
constexpr uint8_t byte_from_digits(unsigned v) noexcept { return static_cast<uint8_t>((v * 256 + 242) / 243); }

// v of a stored byte; meaningless for the 13 bytes that are not valid.
constexpr unsigned digits_from_byte(uint8_t byte) noexcept { return byte * 243u / 256u; }

constexpr bool is_trit_byte(uint8_t byte) noexcept { return byte_from_digits(digits_from_byte(byte)) == byte; }

// Packs `lines` lines. codes: [lines·5][16] in [−H, H]; scale_codes: [lines·5] in 0..26. planes: where each of the `depth` planes
// puts its lines·16 bytes, the most significant first; scales: lines·3 bytes.
void pack_lines(size_t lines, int depth, const int8_t* codes, const uint8_t* scale_codes, std::span<uint8_t* const> planes,
                uint8_t* scales) noexcept;

// The reverse, for bytes that have been validated.
void unpack_lines(size_t lines, int depth, std::span<const uint8_t* const> planes, const uint8_t* scales, int8_t* codes,
                  uint8_t* scale_codes) noexcept;

// Index of the first byte that does not hold five trits.
std::optional<size_t> find_invalid_trit_byte(std::span<const uint8_t> bytes) noexcept;

}  // namespace tritllm::codec
