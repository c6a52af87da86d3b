// Owns the operators + - * / // % ** and unary minus on values, as Python has them on numbers, texts, lists and tuples.
#pragma once

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

}  // namespace tritllm::jinja
