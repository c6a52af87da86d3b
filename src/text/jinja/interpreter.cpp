#include "text/jinja/interpreter.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/failure.h"
#include "text/jinja/loop_fields.h"
#include "text/jinja/print.h"

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

Interpreter::Flow Interpreter::run(const For& node) { return run_loop(node, evaluate(*node.iterable), 0); }

bool Interpreter::passes(const For& node, Scope* outer, const Value& element) {
  if (!node.condition) return true;
  const ScopeFrame frame(*this, outer);
  assign(node.target, element);
  return truthy(evaluate(*node.condition));
}

Interpreter::Flow Interpreter::run_loop(const For& node, const Value& iterable, int64_t depth0) {
  const auto items = std::make_shared<const std::vector<Value>>(elements(budget_, iterable));
  const auto loop = std::make_shared<Loop>();
  Scope* const outer = scope_;
  for (const Value& item : *items) loop->depth = std::max(loop->depth, depth_of(item) + 1);
  if (loop->depth >= kValueDepth) fail("loops over lists nest deeper than the limit on values");
  loop->depth0 = depth0;
  loop->recursive = node.recursive;
  loop->has_length = !node.condition;
  loop->known_length = items->size();
  // The condition is asked when an element is due, not before: the body may have changed what it depends on.
  loop->pull = [this, &node, outer, items, next = size_t{0}](Value& element) mutable {
    while (next < items->size()) {
      const Value& candidate = (*items)[next++];
      if (!passes(node, outer, candidate)) continue;
      element = candidate;
      return true;
    }
    return false;
  };
  loop->render = [this, &node, outer, depth0](const Value& inner) {
    Capture capture(*this);
    const ScopeFrame frame(*this, outer);
    run_loop(node, inner, depth0 + 1);
    return capture.take();
  };
  // The variable may be kept in a namespace; what it refers to does not live longer than the loop.
  const auto end = [](Loop* ended) {
    ended->pull = nullptr;
    ended->render = nullptr;
    ended->last_changed = {};
  };
  const std::unique_ptr<Loop, decltype(end)> ending(loop.get(), end);

  // Jinja's else belongs to loops of which no round came to its end, be it for want of elements or for break and continue.
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
      fail(fmt::format("'{}.{}' cannot be assigned to: '{}' is no namespace", target.name, target.attribute, target.name));
    }
    set_attribute(*object.name_space(), target.attribute, std::move(value));
  }
}

}  // namespace tritllm::jinja
