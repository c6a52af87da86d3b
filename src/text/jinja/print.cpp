#include "text/jinja/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "text/jinja/failure.h"
#include "text/jinja/unicode.h"

namespace tritllm::jinja {
namespace {

void append_escape(std::string& to, char32_t c) {
  const auto number = static_cast<uint32_t>(c);
  if (c == '\n') to += "\\n";
  else if (c == '\r') to += "\\r";
  else if (c == '\t') to += "\\t";
  else if (c < 0x100) to += fmt::format("\\x{:02x}", number);
  else if (c < 0x10000) to += fmt::format("\\u{:04x}", number);
  else to += fmt::format("\\U{:08x}", number);
}

std::string repr_of_text(std::string_view text) {
  const char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string result(1, quote);
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = next_code_point(text, at);
    if (c == static_cast<char32_t>(quote) || c == '\\') result += '\\';
    if (is_printable(c)) result += text.substr(begin, at - begin);
    else append_escape(result, c);
  }
  return result + quote;
}

class Representation {
 public:
  explicit Representation(Budget& budget) : budget_(budget) {}

  std::string take() { return std::move(out_); }

  void add(const Value& value) {
    budget_.work(sizeof(Value));
    if (value.text()) add_text(*value.text());
    else if (value.sequence()) add_sequence(*value.sequence());
    else if (value.dict()) add_dict(*value.dict());
    else if (value.is<None>()) out_ += "None";
    else if (const auto* flag = value.get<bool>()) out_ += *flag ? "True" : "False";
    else if (const auto* whole = value.get<int64_t>()) out_ += std::to_string(*whole);
    else if (const auto* number = value.get<double>()) out_ += repr(*number);
    else if (is_undefined(value)) out_ += "Undefined";
    else refuse(fmt::format("printing a value of type {}", type_name(value)));
  }

 private:
  void add_text(const TrackedText& text) {
    budget_.work(text.bytes.size() * 2);
    if (text.markup) out_ += "Markup(";
    out_ += repr_of_text(text.bytes);
    if (text.markup) out_ += ')';
    if (out_.size() > kTextLimit) fail("the template prints a value beyond the limit of a text's size");
  }

  void add_items(const std::vector<Value>& items) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += ", ";
      add(items[i]);
    }
  }

  void add_sequence(const Sequence& sequence) {
    switch (sequence.kind) {
      case SequenceKind::kList:
        out_ += '[';
        add_items(sequence.items);
        out_ += ']';
        return;
      case SequenceKind::kTuple:
      case SequenceKind::kGroup:
        out_ += '(';
        add_items(sequence.items);
        out_ += sequence.items.size() == 1 ? ",)" : ")";
        return;
      case SequenceKind::kRange:
        out_ += fmt::format("range({}, {}", sequence.start, sequence.stop);
        out_ += sequence.step == 1 ? ")" : fmt::format(", {})", sequence.step);
        return;
      case SequenceKind::kDictKeys:
      case SequenceKind::kDictValues:
      case SequenceKind::kDictItems:
        out_ += sequence.kind == SequenceKind::kDictKeys     ? "dict_keys(["
                : sequence.kind == SequenceKind::kDictValues ? "dict_values(["
                                                             : "dict_items([";
        add_items(sequence.items);
        out_ += "])";
        return;
    }
  }

  void add_dict(const Dict& dict) {
    out_ += '{';
    for (size_t i = 0; i < dict.items.size(); ++i) {
      if (i > 0) out_ += ", ";
      add(dict.items[i].first);
      out_ += ": ";
      add(dict.items[i].second);
    }
    out_ += '}';
  }

  Budget& budget_;
  std::string out_;
};

}  // namespace

std::string repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  // The shortest digits that read back as the number, d.ddde±x; Python writes them out where the exponent is from -4 to 15.
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, number, std::chars_format::scientific).ptr;
  std::string_view shown(buffer, static_cast<size_t>(end - buffer));
  const std::string sign(shown.front() == '-' ? "-" : "");
  shown.remove_prefix(sign.size());
  const size_t e = shown.find('e');
  int exponent = 0;
  const std::string_view written = shown.substr(shown[e + 1] == '+' ? e + 2 : e + 1);
  std::from_chars(written.data(), written.data() + written.size(), exponent);
  std::string digits(1, shown.front());
  if (e > 2) digits += shown.substr(2, e - 2);
  if (exponent < -4 || exponent >= 16) {
    const std::string_view point = digits.size() > 1 ? "." : "";
    return fmt::format("{}{}{}{}e{}{:02d}", sign, digits[0], point, digits.substr(1), exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string repr(Budget& budget, const Value& value) {
  Representation representation(budget);
  representation.add(value);
  std::string text = representation.take();
  if (text.size() > kTextLimit) fail("the template prints a value beyond the limit of a text's size");
  return text;
}

bool from_request(Budget& budget, const Value& value) {
  budget.work(sizeof(Value));
  if (value.text()) return value.text()->from_request();
  const auto any = [&](const std::vector<Value>& items) {
    return std::any_of(items.begin(), items.end(), [&](const Value& item) { return from_request(budget, item); });
  };
  if (value.sequence()) return any(value.sequence()->items);
  if (value.iterator()) return any(value.iterator()->items);
  if (!value.dict()) return false;
  const auto& items = value.dict()->items;
  return std::any_of(items.begin(), items.end(),
                     [&](const auto& item) { return from_request(budget, item.first) || from_request(budget, item.second); });
}

TrackedText printed(Budget& budget, const Value& value) {
  if (value.text()) return *value.text();
  if (is_undefined(value)) return {};
  return whole_text(repr(budget, value), from_request(budget, value));
}

const TrackedText& printed(Budget& budget, const Value& value, TrackedText& storage) {
  if (value.text()) return *value.text();
  storage = printed(budget, value);
  return storage;
}

}  // namespace tritllm::jinja
