// Owns the functions that every template can call.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <ctime>

#include "text/jinja/builtins.h"
#include "text/jinja/formatting.h"
#include "text/jinja/limits.h"
#include "text/jinja/value.h"

namespace tritllm::jinja {
namespace {

// The last three are Jinja's own; templates may ask whether they are defined.
constexpr std::array<std::string_view, 8> kNames = {"raise_exception", "strftime_now", "namespace", "range", "dict",
                                                    "cycler",          "joiner",       "lipsum"};

Value raise_exception(Budget& budget, const Arguments& arguments) {
  const BoundArguments bound("raise_exception", arguments, {"message"}, 1);
  fail(printed(budget, bound.at(0)).bytes);
}

Value strftime_now(Budget& budget, std::chrono::system_clock::time_point now, const Arguments& arguments) {
  const BoundArguments bound("strftime_now", arguments, {"format"}, 1);
  const TrackedText& format = bound.text(0);
  budget.work(16'384 + format.bytes.size() * 16);
  for (size_t i = 0; i + 1 < format.bytes.size(); ++i) {
    if (format.bytes[i] != '%') continue;
    if (std::string_view("fzZ").find(format.bytes[++i]) != std::string_view::npos) refuse("strftime_now with %f, %z or %Z");
  }
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm local{};
  if (localtime_r(&seconds, &local) == nullptr) fail("the time is beyond what the calendar knows");
  // strftime returns 0 both for an empty result and for one that is too long: a letter in front tells them apart.
  const std::string marked = "x" + format.bytes;
  std::array<char, 8192> buffer;
  const size_t length = std::strftime(buffer.data(), buffer.size(), marked.c_str(), &local);
  if (length == 0) fail("strftime_now gives a text that is too long");
  return text_value(whole_text(std::string(buffer.data() + 1, length - 1), format.from_request()));
}

Value range(Budget& budget, const Arguments& arguments) {
  if (!arguments.keywords.empty()) fail("range takes no named arguments");
  const BoundArguments bound("range", arguments, {"start", "stop", "step"}, 1);
  const bool single = bound.get(1) == nullptr;
  const int64_t start = single ? 0 : bound.integer(0, 0), stop = bound.integer(single ? 0 : 1, 0), step = bound.integer(2, 1);
  if (step == 0) fail("range cannot have the step 0");
  const bool empty = step > 0 ? start >= stop : start <= stop;
  uint64_t count = 0;
  if (!empty) {
    const uint64_t distance = step > 0 ? static_cast<uint64_t>(stop) - static_cast<uint64_t>(start)
                                       : static_cast<uint64_t>(start) - static_cast<uint64_t>(stop);
    const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : uint64_t{0} - static_cast<uint64_t>(step);
    count = (distance - 1) / stride + 1;
  }
  if (count > static_cast<uint64_t>(kRangeLimit)) fail(fmt::format("a range of {} elements; the limit is {}", count, kRangeLimit));
  budget.work(count * 2 * sizeof(Value));
  return range_value(start, step, static_cast<int64_t>(count), stop);
}

// The pairs that dict() and namespace() are given: a mapping or a list of pairs, then named arguments.
std::vector<std::pair<Value, Value>> pairs_of(Budget& budget, std::string_view function, const Arguments& arguments) {
  if (arguments.positional.size() > 1) fail(fmt::format("{} takes at most one argument without a name", function));
  std::vector<std::pair<Value, Value>> pairs;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional.front();
    if (source.dict()) {
      budget.work(source.dict()->items.size() * 8 * sizeof(Value));
      pairs = source.dict()->items;
    } else {
      for (const Value& item : elements(budget, source)) {
        std::vector<Value> pair = elements(budget, item);
        if (pair.size() != 2) fail(fmt::format("{} needs pairs of a key and a value", function));
        pairs.emplace_back(std::move(pair[0]), std::move(pair[1]));
      }
    }
  }
  for (const auto& [name, value] : arguments.keywords) pairs.emplace_back(template_value(name), value);
  return pairs;
}

Value dict(Budget& budget, const Arguments& arguments) { return dict_value(pairs_of(budget, "dict", arguments)); }

}  // namespace

Globals::~Globals() {
  for (const auto& space : namespaces_) space->attributes.clear();
}

bool Globals::is_global(std::string_view name) noexcept { return std::find(kNames.begin(), kNames.end(), name) != kNames.end(); }

std::optional<Value> Globals::find(std::string_view name) {
  if (!is_global(name)) return std::nullopt;
  std::string own_name(name);
  if (name == "raise_exception") return native_value(std::move(own_name), raise_exception);
  if (name == "range") return native_value(std::move(own_name), range);
  if (name == "dict") return native_value(std::move(own_name), dict);
  if (name == "strftime_now") {
    return native_value(std::move(own_name),
                        [now = now_](Budget& budget, const Arguments& a) { return strftime_now(budget, now, a); });
  }
  if (name == "namespace") {
    return native_value(std::move(own_name), [this](Budget& budget, const Arguments& a) { return make_namespace(budget, a); });
  }
  return native_value(own_name,
                      [own_name](Budget&, const Arguments&) -> Value { refuse(fmt::format("the function '{}'", own_name)); });
}

Value Globals::make_namespace(Budget& budget, const Arguments& arguments) {
  auto space = std::make_shared<Namespace>();
  for (auto& [key, value] : pairs_of(budget, "namespace", arguments)) {
    if (!key.text()) refuse("an attribute of a namespace whose name is not a string");
    set_attribute(*space, key.text()->bytes, std::move(value));
  }
  namespaces_.push_back(space);
  return {std::move(space)};
}

void set_attribute(Namespace& space, std::string_view name, Value value) {
  if (name.substr(0, 1) == "_")
    fail(fmt::format("an attribute of a namespace cannot be called '{}': names with _ are internal", name));
  space.attributes.insert_or_assign(std::string(name), std::move(value));
}

}  // namespace tritllm::jinja
