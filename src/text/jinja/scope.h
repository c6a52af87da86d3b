// Owns the variables of one block of a running template.
#pragma once

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace tritllm::jinja {

class Scope {
 public:
  explicit Scope(Scope* parent) : parent_(parent) {}

  Scope* parent() const noexcept { return parent_; }

  // The variable of this or the nearest enclosing scope; null where there is none.
  const Value* find(std::string_view name) const noexcept {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent_) {
      const auto found = std::find_if(scope->variables_.begin(), scope->variables_.end(),
                                      [&](const auto& variable) { return variable.first == name; });
      if (found != scope->variables_.end()) return &found->second;
    }
    return nullptr;
  }

  // `name` must outlive the scope: it is part of the syntax tree or a constant.
  void set(std::string_view name, Value value) {
    const auto found =
        std::find_if(variables_.begin(), variables_.end(), [&](const auto& variable) { return variable.first == name; });
    if (found != variables_.end()) found->second = std::move(value);
    else variables_.emplace_back(name, std::move(value));
  }

  // A macro refers to this scope and the ones around it: they must live as long as the rendering.
  void keep() noexcept {
    for (Scope* scope = this; scope != nullptr && !scope->kept_; scope = scope->parent_) scope->kept_ = true;
  }
  bool kept() const noexcept { return kept_; }

 private:
  Scope* parent_;
  std::vector<std::pair<std::string_view, Value>> variables_;
  bool kept_ = false;
};

}  // namespace tritllm::jinja
