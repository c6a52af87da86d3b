#include "text/jinja/arguments.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/failure.h"

namespace tritllm::jinja {

BoundArguments::BoundArguments(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> names,
                               size_t required)
    : function_(function), names_(names), values_(names.size()) {
  if (arguments.positional.size() > names.size()) {
    fail(fmt::format("{} takes at most {} arguments, found {}", function, names.size(), arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.keywords) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) fail(fmt::format("{} has no argument named '{}'", function, name));
    const Value*& slot = values_[static_cast<size_t>(found - names_.begin())];
    if (slot != nullptr) fail(fmt::format("{} got the argument '{}' twice", function, name));
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) fail(fmt::format("{} lacks its argument '{}'", function, names_[i]));
  }
}

int64_t BoundArguments::integer(size_t index, int64_t fallback) const {
  if (values_[index] == nullptr) return fallback;
  if (!is_integral(*values_[index])) wrong_type(index, "a whole number");
  return integral(*values_[index]);
}

std::optional<int64_t> BoundArguments::optional_integer(size_t index) const {
  if (!has(index)) return std::nullopt;
  return integer(index, 0);
}

const TrackedText& BoundArguments::text(size_t index) const {
  if (!values_[index]->text()) wrong_type(index, "a string");
  return *values_[index]->text();
}

void BoundArguments::wrong_type(size_t index, std::string_view expected) const {
  fail(fmt::format("the argument '{}' of {} must be {}, found {}", names_[index], function_, expected, type_name(*values_[index])));
}

}  // namespace tritllm::jinja
