// Owns the running of a parsed template over its variables. One interpreter renders once, in one thread; the tree is shared.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/builtins.h"
#include "text/jinja/value.h"

namespace tritllm::jinja {

class Scope {
 public:
  explicit Scope(Scope* parent) : parent_(parent) {}

  Scope* parent() const noexcept { return parent_; }

  // The variable of this or the nearest enclosing scope; null where there is none.
  const Value* find(std::string_view name) const noexcept {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent_) {
      if (const auto found = scope->variables_.find(name); found != scope->variables_.end()) return &found->second;
    }
    return nullptr;
  }

  // `name` must outlive the scope: it is part of the syntax tree or a constant.
  void set(std::string_view name, Value value) { variables_.insert_or_assign(name, std::move(value)); }

  // A macro refers to this scope and the ones around it: they must live as long as the rendering.
  void keep() noexcept {
    for (Scope* scope = this; scope != nullptr && !scope->kept_; scope = scope->parent_) scope->kept_ = true;
  }
  bool kept() const noexcept { return kept_; }

 private:
  Scope* parent_;
  std::unordered_map<std::string_view, Value> variables_;
  bool kept_ = false;
};

using Variables = std::unordered_map<std::string, Value>;

class Interpreter {
 public:
  Interpreter(const Variables& variables, std::chrono::system_clock::time_point now, Budget& budget)
      : variables_(variables), globals_(now), budget_(budget) {}

  TrackedText render(const Body& body);

  // The line of the template that was being evaluated last: the place of an error.
  int line() const noexcept { return line_; }

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // Makes a new scope inside `parent` the current one while it lives.
  class ScopeFrame {
   public:
    ScopeFrame(Interpreter& interpreter, Scope* parent);
    ~ScopeFrame();
    ScopeFrame(const ScopeFrame&) = delete;
    ScopeFrame& operator=(const ScopeFrame&) = delete;

   private:
    Interpreter& interpreter_;
    Scope* outer_;
    std::unique_ptr<Scope> scope_;
  };

  // Redirects printed text into a text of its own while it lives.
  class Capture {
   public:
    explicit Capture(Interpreter& interpreter) : interpreter_(interpreter), outer_(interpreter.out_) { interpreter.out_ = &text_; }
    ~Capture() { interpreter_.out_ = outer_; }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    Value take() { return text_value(std::move(text_)); }

   private:
    Interpreter& interpreter_;
    TrackedText* outer_;
    TrackedText text_;
  };

  // Statements (interpreter.cpp).
  Flow execute(const Body& body);
  Flow execute(const Statement& statement);
  Flow run(const TemplateText& node);
  Flow run(const Output& node);
  Flow run(const If& node);
  Flow run(const For& node);
  Flow run(const Set& node);
  Flow run(const SetBlock& node);
  Flow run(const MacroStatement& node);
  Flow run(const CallBlock& node);
  Flow run(const FilterBlock& node);
  Flow run(const Generation& node);
  Flow run(const With& node);
  Flow run(const Break&) { return Flow::kBreak; }
  Flow run(const Continue&) { return Flow::kContinue; }
  bool passes(const For& node, Scope* outer, const Value& element);
  void assign(const Target& target, Value value);
  void print(const Value& value);

  // Expressions (evaluation.cpp).
  Value evaluate(const Expression& expression);
  Value evaluate_node(const Literal& node) { return node.value; }
  Value evaluate_node(const Name& node);
  Value evaluate_node(const ListDisplay& node) { return list_value(evaluate_all(node.items)); }
  Value evaluate_node(const TupleDisplay& node) { return tuple_value(evaluate_all(node.items)); }
  Value evaluate_node(const DictDisplay& node);
  Value evaluate_node(const Attribute& node);
  Value evaluate_node(const Subscript& node);
  Value evaluate_node(const SliceBounds& node);
  Value evaluate_node(const Call& node);
  Value evaluate_node(const FilterCall& node);
  Value evaluate_node(const TestCall& node);
  Value evaluate_node(const Unary& node);
  Value evaluate_node(const Binary& node);
  Value evaluate_node(const Logic& node);
  Value evaluate_node(const Comparison& node);
  Value evaluate_node(const Concatenation& node);
  Value evaluate_node(const Conditional& node);
  std::vector<Value> evaluate_all(const std::vector<ExpressionPtr>& expressions);
  Value evaluate_or_none(const ExpressionPtr& expression) { return expression ? evaluate(*expression) : none(); }
  bool compare(ComparisonOperator op, const Value& left, const Value& right);

  // Calls (calls.cpp).
  Arguments evaluate_arguments(const CallArguments& arguments);
  Value call(const Value& callee, const Arguments& arguments);
  Value call_macro(const MacroClosure& macro, const Arguments& arguments);
  void bind_parameters(const MacroDefinition& macro, const Arguments& arguments);
  Value closure(const MacroDefinition& macro);

  const Variables& variables_;
  Globals globals_;
  Budget& budget_;
  std::vector<std::unique_ptr<Scope>> kept_scopes_;
  Scope* scope_ = nullptr;
  TrackedText* out_ = nullptr;
  const Value* captured_ = nullptr;  // what the filters of a filter or set block start from
  int line_ = 1;
};

}  // namespace tritllm::jinja
