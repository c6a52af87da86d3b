#include "text/jinja/filters.h"

#include <fmt/format.h>

#include <unordered_map>

#include "text/jinja/failure.h"

namespace tritllm::jinja {

Value apply_filter(Budget& budget, std::string_view name, const Value& input, const Arguments& arguments) {
  static const std::unordered_map<std::string_view, Filter> table = [] {
    std::unordered_map<std::string_view, Filter> all;
    for (const auto& part : {text_filters(), number_filters(), sequence_filters(), selection_filters()}) {
      for (const NamedFilter& entry : part) all.emplace(entry.name, entry.filter);
    }
    return all;
  }();
  const auto found = table.find(name);
  if (found == table.end()) refuse(fmt::format("the filter '{}'", name));
  budget.step();
  // map can apply map: the nesting is bounded like that of expressions.
  const Budget::Level level(budget);
  return found->second(budget, input, arguments);
}

}  // namespace tritllm::jinja
