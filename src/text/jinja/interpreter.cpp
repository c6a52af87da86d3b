#include "text/jinja/interpreter.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/formatting.h"
#include "text/jinja/limits.h"
#include "text/jinja/lookup.h"
#include "text/jinja/operators.h"

namespace tritllm::jinja {

Interpreter::ScopeFrame::ScopeFrame(Interpreter& interpreter, Scope* parent)
    : interpreter_(interpreter), outer_(interpreter.scope_), scope_(std::make_unique<Scope>(parent)) {
  interpreter.scope_ = scope_.get();
}

Interpreter::ScopeFrame::~ScopeFrame() {
  interpreter_.scope_ = outer_;
  if (scope_->kept()) interpreter_.kept_scopes_.push_back(std::move(scope_));
}

TrackedText Interpreter::render(const Body& body) {
  TrackedText text;
  out_ = &text;
  const ScopeFrame frame(*this, nullptr);
  execute(body);
  return text;
}

Interpreter::Flow Interpreter::execute(const Body& body) {
  for (const Statement& statement : body) {
    const Flow flow = execute(statement);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute(const Statement& statement) {
  const Budget::Level level(budget_);
  budget_.step();
  line_ = statement.line;
  return std::visit([this](const auto& node) { return run(node); }, statement.node);
}

void Interpreter::print(const Value& value) {
  TrackedText storage;
  const TrackedText& text = printed(budget_, value, storage);
  budget_.work(text.bytes.size() + text.input.size() * sizeof(TextSpan));
  budget_.output(text.bytes.size());
  append(*out_, text);
}

Interpreter::Flow Interpreter::run(const TemplateText& node) {
  print(node.text);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const Output& node) {
  for (const ExpressionPtr& value : node.values) print(evaluate(*value));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const If& node) {
  for (const auto& [condition, body] : node.branches) {
    if (truthy(evaluate(*condition))) return execute(body);
  }
  return execute(node.otherwise);
}

bool Interpreter::passes(const For& node, Scope* outer, const Value& element) {
  if (!node.condition) return true;
  const ScopeFrame frame(*this, outer);
  assign(node.target, element);
  return truthy(evaluate(*node.condition));
}

Interpreter::Flow Interpreter::run(const For& node) {
  const auto items = std::make_shared<const std::vector<Value>>(elements(budget_, evaluate(*node.iterable)));
  const auto loop = std::make_shared<Loop>();
  Scope* const outer = scope_;
  for (const Value& item : *items) loop->depth = std::max(loop->depth, depth_of(item) + 1);
  if (loop->depth >= kValueDepth) fail("loops over lists nest deeper than the limit on values");
  loop->has_length = !node.condition;
  loop->known_length = items->size();
  // The condition is evaluated when its element is due: the body may change what it depends on.
  loop->pull = [this, &node, outer, items, next = size_t{0}](Value& element) mutable {
    while (next < items->size()) {
      const Value& candidate = (*items)[next++];
      if (!passes(node, outer, candidate)) continue;
      element = candidate;
      return true;
    }
    return false;
  };
  // The variable may be kept in a namespace; what it refers to does not live longer than the loop.
  const auto end = [](Loop* ended) { ended->pull = nullptr; };
  const std::unique_ptr<Loop, decltype(end)> ending(loop.get(), end);

  // Jinja runs `else` if no iteration completed: the list was empty, or each one hit break or continue.
  bool completed = false;
  for (Value element; advance(*loop, element);) {
    budget_.step();
    const ScopeFrame frame(*this, outer);
    scope_->set("loop", {loop});
    assign(node.target, std::move(element));
    const Flow flow = execute(node.body);
    completed = completed || flow == Flow::kNext;
    if (flow == Flow::kBreak) break;
  }
  if (completed) return Flow::kNext;
  const ScopeFrame frame(*this, outer);
  return execute(node.otherwise);
}

Interpreter::Flow Interpreter::run(const Set& node) {
  assign(node.target, evaluate(*node.value));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const SetBlock& node) {
  Capture capture(*this);
  Flow flow = Flow::kNext;
  {
    const ScopeFrame frame(*this, scope_);
    flow = execute(node.body);
  }
  if (flow != Flow::kNext) return flow;
  Value text = capture.take();
  if (node.filter) {
    const Value* const outer = std::exchange(captured_, &text);
    Value filtered = evaluate(*node.filter);
    captured_ = outer;
    text = std::move(filtered);
  }
  assign(node.target, std::move(text));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const FilterBlock& node) {
  Value text;
  {
    Capture capture(*this);
    const ScopeFrame frame(*this, scope_);
    const Flow flow = execute(node.body);
    if (flow != Flow::kNext) return flow;
    text = capture.take();
  }
  const Value* const outer = std::exchange(captured_, &text);
  const Value filtered = evaluate(*node.filter);
  captured_ = outer;
  print(filtered);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const MacroStatement& node) {
  scope_->set(node.macro->name, closure(*node.macro));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const CallBlock& node) {
  const Call& called = std::get<Call>(node.call->node);
  const Value callee = evaluate(*called.callee);
  Arguments arguments = evaluate_arguments(called.arguments);
  arguments.keywords.emplace_back("caller", closure(*node.caller));
  print(call(callee, arguments));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const Generation& node) {
  const ScopeFrame frame(*this, scope_);
  execute(node.body);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const With& node) {
  std::vector<Value> values = evaluate_all(node.values);
  const ScopeFrame frame(*this, scope_);
  for (size_t i = 0; i < values.size(); ++i) assign(node.targets[i], std::move(values[i]));
  return execute(node.body);
}

void Interpreter::assign(const Target& target, Value value) {
  if (target.tuple) {
    std::vector<Value> values = elements(budget_, value);
    if (values.size() != target.parts.size()) {
      fail(fmt::format("{} values cannot be assigned to {} names", values.size(), target.parts.size()));
    }
    for (size_t i = 0; i < values.size(); ++i) assign(target.parts[i], std::move(values[i]));
  } else if (target.attribute.empty()) {
    scope_->set(target.name, std::move(value));
  } else {
    const Value object = evaluate_node(Name{target.name});
    if (!object.name_space()) {
      fail(fmt::format("'{}.{}' cannot be assigned to: '{}' is not a namespace", target.name, target.attribute, target.name));
    }
    set_attribute(*object.name_space(), target.attribute, std::move(value));
  }
}

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

namespace {

bool has_keyword(const Arguments& arguments, std::string_view name) {
  return std::any_of(arguments.keywords.begin(), arguments.keywords.end(), [&](const auto& k) { return k.first == name; });
}

}  // namespace

Arguments Interpreter::evaluate_arguments(const CallArguments& given) {
  Arguments arguments;
  arguments.positional = evaluate_all(given.positional);
  for (const auto& [name, value] : given.keywords) arguments.keywords.emplace_back(name, evaluate(*value));
  if (given.star) {
    for (Value& value : elements(budget_, evaluate(*given.star))) arguments.positional.push_back(std::move(value));
  }
  if (given.double_star) {
    const Value mapping = evaluate(*given.double_star);
    if (!mapping.dict()) fail(fmt::format("a call with ** needs a mapping, found {}", type_name(mapping)));
    for (const auto& [key, value] : mapping.dict()->items) {
      if (!key.text()) fail("a call with ** needs a mapping with strings as keys");
      if (has_keyword(arguments, key.text()->bytes)) fail(fmt::format("a call got the argument '{}' twice", key.text()->bytes));
      budget_.step();
      if (arguments.keywords.size() == kNamedArguments) {
        fail(fmt::format("a call with more than the limit of {} named arguments", kNamedArguments));
      }
      arguments.keywords.emplace_back(key.text()->bytes, value);
    }
  }
  return arguments;
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
  if (is_undefined(callee)) fail(reason_of(callee));
  const Budget::Level level(budget_);
  budget_.step();
  if (callee.loop()) fail("the variable 'loop' cannot be called: its loop is not recursive");
  const Callable* callable = callee.callable();
  if (callable == nullptr) fail(fmt::format("a value of type {} cannot be called", type_name(callee)));
  if (const auto* native = std::get_if<NativeFunction>(&callable->target)) return (*native)(budget_, arguments);
  return call_macro(std::get<MacroClosure>(callable->target), arguments);
}

Value Interpreter::closure(const MacroDefinition& macro) {
  scope_->keep();
  return {std::make_shared<const Callable>(Callable{macro.name, MacroClosure{&macro, scope_}})};
}

Value Interpreter::call_macro(const MacroClosure& macro, const Arguments& arguments) {
  Capture capture(*this);
  const ScopeFrame frame(*this, macro.scope);
  bind_parameters(*macro.definition, arguments);
  execute(macro.definition->body);
  return capture.take();
}

void Interpreter::bind_parameters(const MacroDefinition& macro, const Arguments& arguments) {
  const size_t given = arguments.positional.size();
  auto keywords = arguments.keywords;
  const auto take_keyword = [&](std::string_view name) -> std::optional<Value> {
    const auto found = std::find_if(keywords.begin(), keywords.end(), [&](const auto& k) { return k.first == name; });
    if (found == keywords.end()) return std::nullopt;
    Value value = std::move(found->second);
    keywords.erase(found);
    return value;
  };
  bool names_caller = false;
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    names_caller = names_caller || parameter.name == "caller";
    if (i < given) {
      scope_->set(parameter.name, arguments.positional[i]);
    } else if (std::optional<Value> named = take_keyword(parameter.name)) {
      scope_->set(parameter.name, *std::move(named));
    } else if (parameter.fallback) {
      scope_->set(parameter.name, evaluate(*parameter.fallback));
    } else {
      scope_->set(parameter.name, undefined(fmt::format("the parameter '{}' of '{}' is not given", parameter.name, macro.name)));
    }
  }
  if (macro.uses_caller && !names_caller) {
    std::optional<Value> caller = take_keyword("caller");
    const bool absent = !caller || caller->is<None>();
    scope_->set("caller", absent ? undefined("the macro is called without a block to call") : *std::move(caller));
  }
  if (macro.uses_kwargs) {
    std::vector<std::pair<Value, Value>> items;
    for (auto& [name, value] : keywords) items.emplace_back(template_value(name), std::move(value));
    scope_->set("kwargs", dict_value(std::move(items)));
  } else if (!keywords.empty()) {
    fail(fmt::format("the macro '{}' has no parameter '{}'", macro.name, keywords.front().first));
  }
  const size_t named = std::min(given, macro.parameters.size());
  if (macro.uses_varargs) {
    scope_->set("varargs",
                tuple_value({arguments.positional.begin() + static_cast<std::ptrdiff_t>(named), arguments.positional.end()}));
  } else if (given > named) {
    fail(fmt::format("the macro '{}' takes at most {} arguments, found {}", macro.name, macro.parameters.size(), given));
  }
}

}  // namespace tritllm::jinja
