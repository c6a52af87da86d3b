// Owns equality, order, membership and hashing of values, as Python has them.
#pragma once

#include <compare>
#include <string>

#include "text/jinja/value.h"

namespace tritllm::jinja {

bool equal(Budget& budget, const Value& left, const Value& right);

// Less, equal, greater; nothing for a NaN. Fails for types without an order between them.
std::partial_ordering order(Budget& budget, const Value& left, const Value& right);

// left < right, the way Python's sort asks.
bool less(Budget& budget, const Value& left, const Value& right);

// `item in container`.
bool contains(Budget& budget, const Value& container, const Value& item);

// The position of `needle` in `text` from byte `from` on, or npos, in linear time whatever the texts are.
size_t find_bytes(std::string_view text, std::string_view needle, size_t from = 0) noexcept;

// A string that is the same for equal keys of a mapping and different for others; texts are kTextKeyCode and their bytes. Fails for
// what cannot be a key.
inline constexpr char kTextKeyCode = 't';
std::string key_code(const Value& key);

}  // namespace tritllm::jinja
