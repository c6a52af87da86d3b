// Owns the operators on values, as Python has them: arithmetic on numbers, texts, lists and tuples; equality, order, membership and
// hashing.
#pragma once

#include <compare>
#include <string>

#include "text/jinja/value.h"

namespace tritllm::jinja {

Value add(Budget& budget, const Value& left, const Value& right);
Value subtract(const Value& left, const Value& right);
Value multiply(Budget& budget, const Value& left, const Value& right);
Value divide(const Value& left, const Value& right);
Value floor_divide(const Value& left, const Value& right);
Value modulo(Budget& budget, const Value& left, const Value& right);  // of a text: "%s" % value
Value power(Budget& budget, const Value& left, const Value& right);
Value negated(const Value& value);
Value unchanged_number(const Value& value);  // unary plus

bool equal(Budget& budget, const Value& left, const Value& right);

// Less, equal, greater; nothing for a NaN. Fails for types without an order between them.
std::partial_ordering order(Budget& budget, const Value& left, const Value& right);

// left < right, the way Python's sort asks.
bool less(Budget& budget, const Value& left, const Value& right);

// `item in container`.
bool contains(Budget& budget, const Value& container, const Value& item);

// A string that is the same for equal keys of a mapping and different for others; texts are kTextKeyCode and their bytes. Fails for
// what cannot be a key.
inline constexpr char kTextKeyCode = 't';
std::string key_code(const Value& key);

}  // namespace tritllm::jinja
