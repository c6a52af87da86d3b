#include "text/jinja/loop_fields.h"

#include <algorithm>
#include <cstdint>

#include "text/jinja/compare.h"
#include "text/jinja/failure.h"

namespace tritllm::jinja {
namespace {

bool pull(Loop& loop, Value& element) { return loop.pull && loop.pull(element); }

const Value* peek(Loop& loop) {
  if (loop.ahead.empty()) {
    Value element;
    if (!pull(loop, element)) return nullptr;
    loop.ahead.push_back(std::move(element));
  }
  return &loop.ahead.back();
}

int64_t length(Loop& loop) {
  if (!loop.has_length) {
    std::vector<Value> rest;
    for (Value element; pull(loop, element);) rest.push_back(std::move(element));
    std::reverse(rest.begin(), rest.end());
    rest.insert(rest.end(), loop.ahead.begin(), loop.ahead.end());
    loop.ahead = std::move(rest);
    loop.known_length = static_cast<size_t>(loop.index0 + 1) + loop.ahead.size();
    loop.has_length = true;
  }
  return static_cast<int64_t>(loop.known_length);
}

Value cycle(Loop& loop, const Arguments& arguments) {
  if (!arguments.keywords.empty() || arguments.positional.empty()) fail("loop.cycle needs values to cycle through");
  return arguments.positional[static_cast<size_t>(loop.index0) % arguments.positional.size()];
}

Value changed(Budget& budget, Loop& loop, const Arguments& arguments) {
  if (!arguments.keywords.empty()) fail("loop.changed takes no named arguments");
  if (!loop.pull) refuse("loop.changed after the loop");  // the loop would hold on to its own function
  const auto& now = arguments.positional;
  const auto& before = loop.last_changed.positional;
  const bool same = loop.changed_before && std::equal(now.begin(), now.end(), before.begin(), before.end(),
                                                      [&](const Value& a, const Value& b) { return equal(budget, a, b); });
  // Held by the loop, so they count for the depth of what holds the loop.
  for (const Value& value : now) loop.depth = std::max(loop.depth, tuple_value({value}).sequence()->depth);
  loop.last_changed = arguments;
  loop.changed_before = true;
  return boolean(!same);
}

}  // namespace

bool advance(Loop& loop, Value& element) {
  if (!loop.ahead.empty()) {
    element = std::move(loop.ahead.back());
    loop.ahead.pop_back();
  } else if (!pull(loop, element)) {
    return false;
  }
  ++loop.index0;
  loop.previous = std::move(loop.current);
  loop.current = element;
  return true;
}

bool find_loop_field(const Value& loop_value, std::string_view name, Value& found) {
  Loop& loop = *loop_value.loop();
  if (name == "index") found = integer(loop.index0 + 1);
  else if (name == "index0") found = integer(loop.index0);
  else if (name == "revindex") found = integer(length(loop) - loop.index0);
  else if (name == "revindex0") found = integer(length(loop) - loop.index0 - 1);
  else if (name == "first") found = boolean(loop.index0 == 0);
  else if (name == "last") found = boolean(peek(loop) == nullptr);
  else if (name == "length") found = integer(length(loop));
  else if (name == "depth") found = integer(loop.depth0 + 1);
  else if (name == "depth0") found = integer(loop.depth0);
  else if (name == "previtem") found = loop.index0 == 0 ? undefined("there is no previous element") : loop.previous;
  else if (name == "nextitem") found = peek(loop) ? *peek(loop) : undefined("there is no next element");
  else if (name == "cycle" || name == "changed") {
    const bool cycles = name == "cycle";
    const auto call = [loop_value, cycles](Budget& budget, const Arguments& arguments) {
      return cycles ? cycle(*loop_value.loop(), arguments) : changed(budget, *loop_value.loop(), arguments);
    };
    found = native_value(std::string(name), call, loop.depth);
  } else {
    return false;
  }
  return true;
}

}  // namespace tritllm::jinja
