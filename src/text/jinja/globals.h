// Owns the functions that every chat template can call: raise_exception, strftime_now, namespace, range, dict.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace tritllm::jinja {

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
