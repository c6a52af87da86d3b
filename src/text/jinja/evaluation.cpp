// The part of Interpreter that evaluates expressions.
#include <fmt/format.h>

#include "text/jinja/arithmetic.h"
#include "text/jinja/compare.h"
#include "text/jinja/failure.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/lookup.h"
#include "text/jinja/predicates.h"
#include "text/jinja/print.h"

namespace tritllm::jinja {

Value Interpreter::evaluate(const Expression& expression) {
  const Budget::Level level(budget_);
  budget_.step();
  line_ = expression.line;
  return std::visit([this](const auto& node) { return evaluate_node(node); }, expression.node);
}

std::vector<Value> Interpreter::evaluate_all(const std::vector<ExpressionPtr>& expressions) {
  std::vector<Value> values;
  values.reserve(expressions.size());
  for (const ExpressionPtr& expression : expressions) values.push_back(evaluate(*expression));
  return values;
}

Value Interpreter::evaluate_node(const Name& node) {
  if (const Value* local = scope_->find(node.name)) return *local;
  if (const auto variable = variables_.find(node.name); variable != variables_.end()) return variable->second;
  if (std::optional<Value> global = globals_.find(node.name)) return *std::move(global);
  return undefined(fmt::format("'{}' is undefined", node.name));
}

Value Interpreter::evaluate_node(const DictDisplay& node) {
  std::vector<std::pair<Value, Value>> items;
  for (const auto& [key, value] : node.items) {
    Value evaluated_key = evaluate(*key);
    items.emplace_back(std::move(evaluated_key), evaluate(*value));
  }
  return dict_value(std::move(items));
}

Value Interpreter::evaluate_node(const Attribute& node) { return attribute_of(budget_, evaluate(*node.object), node.name); }

Value Interpreter::evaluate_node(const Subscript& node) {
  const Value object = evaluate(*node.object);
  if (const auto* bounds = std::get_if<SliceBounds>(&node.index->node)) {
    const Value start = evaluate_or_none(bounds->start), stop = evaluate_or_none(bounds->stop);
    return slice_of(budget_, object, start, stop, evaluate_or_none(bounds->step));
  }
  return element_of(budget_, object, evaluate(*node.index));
}

// The parser makes these only as an index.
Value Interpreter::evaluate_node(const SliceBounds&) { fail("a slice stands outside an index"); }

Value Interpreter::evaluate_node(const Call& node) {
  const Value callee = evaluate(*node.callee);
  return call(callee, evaluate_arguments(node.arguments));
}

Value Interpreter::evaluate_node(const FilterCall& node) {
  const Value input = node.input ? evaluate(*node.input) : *captured_;
  return apply_filter(budget_, node.name, input, evaluate_arguments(node.arguments));
}

Value Interpreter::evaluate_node(const TestCall& node) {
  const Value input = evaluate(*node.input);
  return boolean(apply_test(budget_, node.name, input, evaluate_arguments(node.arguments)));
}

Value Interpreter::evaluate_node(const Unary& node) {
  const Value operand = evaluate(*node.operand);
  if (node.op == UnaryOperator::kNot) return boolean(!truthy(operand));
  return node.op == UnaryOperator::kMinus ? negated(operand) : unchanged_number(operand);
}

Value Interpreter::evaluate_node(const Binary& node) {
  const Value left = evaluate(*node.left), right = evaluate(*node.right);
  switch (node.op) {
    case BinaryOperator::kAdd: return add(budget_, left, right);
    case BinaryOperator::kSubtract: return subtract(left, right);
    case BinaryOperator::kMultiply: return multiply(budget_, left, right);
    case BinaryOperator::kDivide: return divide(left, right);
    case BinaryOperator::kFloorDivide: return floor_divide(left, right);
    case BinaryOperator::kModulo: return modulo(budget_, left, right);
    case BinaryOperator::kPower: break;
  }
  return power(budget_, left, right);
}

Value Interpreter::evaluate_node(const Logic& node) {
  Value left = evaluate(*node.left);
  const bool decided = truthy(left) == (node.op == LogicOperator::kOr);
  return decided ? std::move(left) : evaluate(*node.right);
}

Value Interpreter::evaluate_node(const Comparison& node) {
  Value left = evaluate(*node.first);
  for (const auto& [op, operand] : node.rest) {
    Value right = evaluate(*operand);
    if (!compare(op, left, right)) return boolean(false);
    left = std::move(right);
  }
  return boolean(true);
}

bool Interpreter::compare(ComparisonOperator op, const Value& left, const Value& right) {
  switch (op) {
    case ComparisonOperator::kEqual: return equal(budget_, left, right);
    case ComparisonOperator::kNotEqual: return !equal(budget_, left, right);
    case ComparisonOperator::kLess: return order(budget_, left, right) < 0;
    case ComparisonOperator::kLessEqual: return order(budget_, left, right) <= 0;
    case ComparisonOperator::kGreater: return order(budget_, left, right) > 0;
    case ComparisonOperator::kGreaterEqual: return order(budget_, left, right) >= 0;
    case ComparisonOperator::kIn: return contains(budget_, right, left);
    case ComparisonOperator::kNotIn: break;
  }
  return !contains(budget_, right, left);
}

Value Interpreter::evaluate_node(const Concatenation& node) {
  TrackedText result;
  TrackedText storage;
  for (const ExpressionPtr& part : node.parts) {
    const Value value = evaluate(*part);
    const TrackedText& text = printed(budget_, value, storage);
    budget_.work(text.bytes.size() * 2 + text.input.size() * sizeof(TextSpan));
    append(result, text);
  }
  return text_value(std::move(result));
}

Value Interpreter::evaluate_node(const Conditional& node) {
  if (truthy(evaluate(*node.condition))) return evaluate(*node.then);
  if (node.otherwise) return evaluate(*node.otherwise);
  return undefined("an 'if' without 'else' has no value where its condition is false");
}

}  // namespace tritllm::jinja
