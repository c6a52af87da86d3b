// Owns the two small types that are passed around in this module: spans of texts and ids of tokens.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tritllm {

// Bytes [begin, end) of a text.
struct TextSpan {
  size_t begin = 0;
  size_t end = 0;

  bool operator==(const TextSpan&) const = default;
};

using TokenId = uint32_t;

// Four times the largest vocabulary in use: tables by id stay small whatever a file declares.
inline constexpr TokenId kLargestTokenId = (1u << 20) - 1;

}  // namespace tritllm
