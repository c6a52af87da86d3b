// Owns the names that a template can use: filters, tests, methods and functions. Whatever is not among them is refused by name.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace tritllm::jinja {

// `input|name(arguments)`.
Value apply_filter(Budget& budget, std::string_view name, const Value& input, const Arguments& arguments);

// `input is name(arguments)`.
bool apply_test(Budget& budget, std::string_view name, const Value& input, const Arguments& arguments);

// The method of that name: a function where there is one, an undefined value for one that would change the object (as Jinja's
// sandbox has it), false where Python has none either. Refuses those that Python has and this engine does not.
bool find_method(const Value& self, std::string_view name, Value& found);

// The functions that every chat template can call: raise_exception, strftime_now, namespace, range, dict.
class Globals {
 public:
  explicit Globals(std::chrono::system_clock::time_point now) : now_(now) {}
  // Namespaces can hold one another, and themselves.
  ~Globals();
  Globals(const Globals&) = delete;
  Globals& operator=(const Globals&) = delete;

  // Nothing where no function has that name.
  std::optional<Value> find(std::string_view name);

  static bool is_global(std::string_view name) noexcept;

 private:
  Value make_namespace(Budget& budget, const Arguments& arguments);

  std::chrono::system_clock::time_point now_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

void set_attribute(Namespace& space, std::string_view name, Value value);

}  // namespace tritllm::jinja
