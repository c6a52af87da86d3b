// The part of Interpreter that calls functions and macros.
#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/failure.h"
#include "text/jinja/interpreter.h"

namespace tritllm::jinja {
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
      arguments.keywords.emplace_back(key.text()->bytes, value);
    }
  }
  return arguments;
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
  if (is_undefined(callee)) fail(reason_of(callee));
  const Budget::Level level(budget_);
  budget_.step();
  if (const Loop* loop = callee.loop()) {
    if (!loop->recursive) fail("the loop is called but not marked as recursive");
    if (!loop->render) refuse("calling a loop that has ended");
    if (arguments.positional.size() != 1 || !arguments.keywords.empty()) fail("a recursive loop is called with one value");
    const auto render = loop->render;
    return render(arguments.positional.front());
  }
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
