#include "text/jinja/compare.h"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "text/jinja/failure.h"

namespace tritllm::jinja {
namespace {

constexpr size_t kKeyTupleLimit = 16;

bool is_number(const Value& value) noexcept { return is_integral(value) || value.is<double>(); }

// Exact, unlike a conversion of the integer to double.
std::partial_ordering order_mixed(int64_t left, double right) noexcept {
  if (std::isnan(right)) return std::partial_ordering::unordered;
  if (right >= 0x1p63) return std::partial_ordering::less;
  if (right < -0x1p63) return std::partial_ordering::greater;
  const auto whole = static_cast<int64_t>(right);
  if (left != whole) return left <=> whole;
  const double rest = right - std::trunc(right);
  return rest > 0 ? std::partial_ordering::less : rest < 0 ? std::partial_ordering::greater : std::partial_ordering::equivalent;
}

std::partial_ordering order_numbers(const Value& left, const Value& right) noexcept {
  if (is_integral(left) && is_integral(right)) return integral(left) <=> integral(right);
  if (is_integral(left)) return order_mixed(integral(left), *right.get<double>());
  if (is_integral(right)) return 0 <=> order_mixed(integral(right), *left.get<double>());
  return *left.get<double>() <=> *right.get<double>();
}

// Lists equal lists, tuples tuples; views of a mapping compare as sets do, which no template needs.
int kind_of_equality(const Sequence& sequence) {
  switch (sequence.kind) {
    case SequenceKind::kList: return 0;
    case SequenceKind::kTuple:
    case SequenceKind::kGroup: return 1;
    case SequenceKind::kRange: return 2;
    default: refuse("comparing the views of a mapping");
  }
}

bool equal_items(Budget& budget, const std::vector<Value>& left, const std::vector<Value>& right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [&](const Value& a, const Value& b) { return equal(budget, a, b); });
}

bool equal_dicts(Budget& budget, const Dict& left, const Dict& right) {
  if (left.items.size() != right.items.size()) return false;
  return std::all_of(left.items.begin(), left.items.end(), [&](const auto& item) {
    const Value* other = find(right, item.first);
    return other != nullptr && equal(budget, item.second, *other);
  });
}

}  // namespace

bool equal(Budget& budget, const Value& left, const Value& right) {
  budget.work(sizeof(Value));
  if (is_number(left) && is_number(right)) return order_numbers(left, right) == std::partial_ordering::equivalent;
  if (left.data.index() != right.data.index()) return false;
  if (left.text()) {
    if (left.text()->bytes.size() != right.text()->bytes.size()) return false;
    budget.work(left.text()->bytes.size());
    return left.text()->bytes == right.text()->bytes;
  }
  if (left.sequence()) {
    if (left.sequence() == right.sequence()) return true;
    return kind_of_equality(*left.sequence()) == kind_of_equality(*right.sequence()) &&
           equal_items(budget, left.sequence()->items, right.sequence()->items);
  }
  if (left.dict()) return equal_dicts(budget, *left.dict(), *right.dict());
  if (is_undefined(left) || left.is<None>()) return true;
  if (left.callable()) return left.callable() == right.callable();
  if (left.iterator()) return left.iterator() == right.iterator();
  if (left.name_space()) return left.name_space() == right.name_space();
  return left.loop() == right.loop();
}

std::partial_ordering order(Budget& budget, const Value& left, const Value& right) {
  for (const Value* side : {&left, &right}) {
    if (is_undefined(*side)) fail(reason_of(*side));
  }
  if (is_number(left) && is_number(right)) return order_numbers(left, right);
  if (left.text() && right.text()) {
    budget.work(std::min(left.text()->bytes.size(), right.text()->bytes.size()) + sizeof(Value));
    return left.text()->bytes <=> right.text()->bytes;
  }
  if ((is_list(left) && is_list(right)) || (is_tuple(left) && is_tuple(right))) {
    const std::vector<Value>&a = left.sequence()->items, &b = right.sequence()->items;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (!equal(budget, a[i], b[i])) return order(budget, a[i], b[i]);
    }
    return a.size() <=> b.size();
  }
  fail(fmt::format("values of the types {} and {} have no order", type_name(left), type_name(right)));
}

bool less(Budget& budget, const Value& left, const Value& right) { return order(budget, left, right) < 0; }

bool contains(Budget& budget, const Value& container, const Value& item) {
  if (const TrackedText* text = container.text()) {
    if (is_undefined(item) || !item.text()) fail(fmt::format("'in <string>' needs a string, found {}", type_name(item)));
    budget.work(text->bytes.size() + item.text()->bytes.size());
    return find_bytes(text->bytes, item.text()->bytes) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) return find(*dict, item) != nullptr;
  if (const Sequence* sequence = container.sequence()) {
    return std::any_of(sequence->items.begin(), sequence->items.end(),
                       [&](const Value& other) { return equal(budget, other, item); });
  }
  for (const Value& other : elements(budget, container)) {
    if (equal(budget, other, item)) return true;
  }
  return false;
}

size_t find_bytes(std::string_view text, std::string_view needle, size_t from) noexcept {
  if (from > text.size()) return std::string::npos;
  if (needle.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data()) : std::string::npos;
}

std::string key_code(const Value& key) {
  if (key.text()) return kTextKeyCode + key.text()->bytes;
  if (key.is<None>()) return "n";
  if (is_integral(key)) return fmt::format("i{}", integral(key));
  if (const auto* number = key.get<double>()) {
    const bool whole = std::trunc(*number) == *number && *number >= -0x1p63 && *number < 0x1p63;
    return whole ? fmt::format("i{}", static_cast<int64_t>(*number)) : fmt::format("f{}", *number);
  }
  if (is_tuple(key)) {
    const std::vector<Value>& items = key.sequence()->items;
    if (items.size() > kKeyTupleLimit || key.sequence()->depth > 1) refuse("a long or nested tuple as a key of a mapping");
    std::string code = "(";
    for (const Value& item : items) {
      const std::string part = key_code(item);
      code += fmt::format("{}:{}", part.size(), part);
    }
    return code;
  }
  if (key.sequence() || key.dict()) fail(fmt::format("a value of type {} cannot be a key of a mapping", type_name(key)));
  refuse(fmt::format("a value of type {} as a key of a mapping", type_name(key)));
}

}  // namespace tritllm::jinja
