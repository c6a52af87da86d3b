// Owns the syntax tree of a template: plain data, immutable once parsed. parser.cpp makes it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/value.h"

namespace tritllm::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<const Expression>;
using Body = std::vector<Statement>;

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
  ExpressionPtr star, double_star;  // f(*star, **double_star); null where absent
};

enum class UnaryOperator { kPlus, kMinus, kNot };
enum class BinaryOperator { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class LogicOperator { kAnd, kOr };
enum class ComparisonOperator { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct ListDisplay {
  std::vector<ExpressionPtr> items;
};
struct TupleDisplay {
  std::vector<ExpressionPtr> items;
};
struct DictDisplay {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};
struct Attribute {
  ExpressionPtr object;
  std::string name;
};
struct Subscript {
  ExpressionPtr object, index;
};
struct SliceBounds {  // only as the index of a Subscript; null where left out
  ExpressionPtr start, stop, step;
};
struct Call {
  ExpressionPtr callee;
  CallArguments arguments;
};
struct FilterCall {
  ExpressionPtr input;  // null: what the filter or set block around it has captured
  std::string name;
  CallArguments arguments;
};
struct TestCall {
  ExpressionPtr input;
  std::string name;
  CallArguments arguments;
};
struct Unary {
  UnaryOperator op;
  ExpressionPtr operand;
};
struct Binary {
  BinaryOperator op;
  ExpressionPtr left, right;
};
struct Logic {
  LogicOperator op;
  ExpressionPtr left, right;
};
struct Comparison {
  ExpressionPtr first;
  std::vector<std::pair<ComparisonOperator, ExpressionPtr>> rest;
};
struct Concatenation {
  std::vector<ExpressionPtr> parts;
};
struct Conditional {
  ExpressionPtr condition, then, otherwise;  // otherwise: null where left out
};

struct Expression {
  std::variant<Literal, Name, ListDisplay, TupleDisplay, DictDisplay, Attribute, Subscript, SliceBounds, Call, FilterCall, TestCall,
               Unary, Binary, Logic, Comparison, Concatenation, Conditional>
      node;
  int line;
  int depth;  // of the tree below, itself included
};

// What a value is assigned to: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  std::string name;
  std::string attribute;      // empty: the name itself
  std::vector<Target> parts;  // of a tuple, which has no name
  bool tuple = false;
};

struct Parameter {
  std::string name;
  ExpressionPtr fallback;  // null where the parameter has none
};

struct MacroDefinition {
  std::string name;
  std::vector<Parameter> parameters;
  Body body;
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;
};

struct TemplateText {
  Value text;
};
struct Output {
  std::vector<ExpressionPtr> values;
};
struct If {
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Body otherwise;
};
struct For {
  Target target;
  ExpressionPtr iterable, condition;  // condition: null where absent
  Body body, otherwise;
};
struct Set {
  Target target;
  ExpressionPtr value;
};
struct SetBlock {
  Target target;
  ExpressionPtr filter;  // null where absent
  Body body;
};
struct MacroStatement {
  std::unique_ptr<const MacroDefinition> macro;
};
struct CallBlock {
  std::unique_ptr<const MacroDefinition> caller;
  ExpressionPtr call;
};
struct FilterBlock {
  ExpressionPtr filter;
  Body body;
};
struct Generation {  // text that the model would write: training tools look for it, rendering does not
  Body body;
};
struct With {
  std::vector<Target> targets;
  std::vector<ExpressionPtr> values;
  Body body;
};
struct Break {};
struct Continue {};

struct Statement {
  std::variant<TemplateText, Output, If, For, Set, SetBlock, MacroStatement, CallBlock, FilterBlock, Generation, With, Break,
               Continue>
      node;
  int line;
};

// What Jinja has and this engine lacks is refused here, by name and line.
Body parse_template(std::string_view source, const std::string& where);

}  // namespace tritllm::jinja
