// Owns the matching of a call's arguments with the parameters of a filter, test, method or function, and their reading by type.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "text/jinja/value.h"

namespace tritllm::jinja {

class BoundArguments {
 public:
  // Fails where an argument is missing (the first `required` have no default), surplus, unknown or given twice.
  BoundArguments(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> names,
                 size_t required = 0);

  const Value* get(size_t index) const noexcept { return values_[index]; }  // null where not given
  const Value& at(size_t index) const noexcept { return *values_[index]; }  // of a required one

  // Given, and not None.
  bool has(size_t index) const noexcept { return values_[index] != nullptr && !values_[index]->is<None>(); }

  int64_t integer(size_t index, int64_t fallback) const;
  std::optional<int64_t> optional_integer(size_t index) const;  // nothing for None as well
  bool boolean(size_t index, bool fallback) const { return values_[index] ? truthy(*values_[index]) : fallback; }
  const TrackedText& text(size_t index) const;  // of a required one; fails where it is none

 private:
  [[noreturn]] void wrong_type(size_t index, std::string_view expected) const;

  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace tritllm::jinja
