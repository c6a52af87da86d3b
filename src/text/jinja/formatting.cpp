#include "text/jinja/formatting.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "text/jinja/limits.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"
#include "text/unicode.h"

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
    budget_.work(text.bytes.size() * 8);
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

namespace {

// repr() for !r and %r, with the marks of the text that it shows.
TrackedText tracked_repr(Budget& budget, const Value& value) {
  return whole_text(repr(budget, value), from_request(budget, value));
}

class BraceFormatter {
 public:
  BraceFormatter(Budget& budget, const TrackedText& pattern, const Arguments& arguments)
      : budget_(budget), pattern_(pattern), arguments_(arguments) {}

  TrackedText run() {
    budget_.work(pattern_.bytes.size() * 2);
    const std::string& bytes = pattern_.bytes;
    while (at_ < bytes.size()) {
      const size_t brace = std::min(bytes.find_first_of("{}", at_), bytes.size());
      append(result_, pattern_, at_, brace);
      at_ = brace;
      if (at_ == bytes.size()) break;
      if (at_ + 1 < bytes.size() && bytes[at_ + 1] == bytes[at_]) {
        append(result_, pattern_, at_, at_ + 1);
        at_ += 2;
      } else {
        if (bytes[at_] == '}') fail("a single '}' in a format");
        read_field();
      }
    }
    result_.markup = pattern_.markup;
    return std::move(result_);
  }

 private:
  void read_field() {
    const std::string& bytes = pattern_.bytes;
    const size_t end = bytes.find('}', at_);
    if (end == std::string::npos) fail("a '{' without its '}' in a format");
    std::string_view field = std::string_view(bytes).substr(at_ + 1, end - at_ - 1);
    if (field.find('{') != std::string_view::npos) refuse("a format inside a format");
    at_ = end + 1;
    const size_t colon = std::min(field.find(':'), field.size());
    if (colon < field.size()) refuse("a layout ('{:…}') in a format");
    std::string_view name = field.substr(0, colon);
    char conversion = '\0';
    if (const size_t mark = name.find('!'); mark != std::string_view::npos) {
      if (name.size() != mark + 2 || (name[mark + 1] != 'r' && name[mark + 1] != 's'))
        refuse("a conversion other than !r and !s in a format");
      conversion = name[mark + 1];
      name = name.substr(0, mark);
    }
    add(argument(name), conversion);
  }

  const Value& argument(std::string_view name) {
    if (name.find_first_of(".[") != std::string_view::npos) refuse("attributes and elements inside a format");
    const bool digits = !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
    if (!name.empty() && !digits) {
      const auto& keywords = arguments_.keywords;
      const auto found = std::find_if(keywords.begin(), keywords.end(), [&](const auto& k) { return k.first == name; });
      if (found == keywords.end()) fail(fmt::format("a format asks for '{}', which is not given", name));
      return found->second;
    }
    const Numbering numbering = digits ? Numbering::kByHand : Numbering::kAutomatic;
    if (numbering_ != Numbering::kNone && numbering_ != numbering)
      fail("a format mixes numbered fields with fields without a number");
    numbering_ = numbering;
    size_t index = next_;
    if (digits) {
      const auto read = std::from_chars(name.data(), name.data() + name.size(), index);
      if (read.ec != std::errc()) index = arguments_.positional.size();
    } else {
      ++next_;
    }
    if (index >= arguments_.positional.size()) fail("a format has more fields than there are values");
    return arguments_.positional[index];
  }

  void add(const Value& value, char conversion) {
    TrackedText shown = conversion == 'r' ? tracked_repr(budget_, value) : printed(budget_, value);
    if (conversion != '\0') shown.markup = false;
    if (pattern_.markup) shown = escaped(budget_, shown);
    budget_.work(shown.bytes.size() * 2 + shown.input.size() * sizeof(TextSpan));
    append(result_, shown);
  }

  enum class Numbering { kNone, kAutomatic, kByHand };

  Budget& budget_;
  const TrackedText& pattern_;
  const Arguments& arguments_;
  TrackedText result_;
  size_t at_ = 0;
  size_t next_ = 0;
  Numbering numbering_ = Numbering::kNone;
};

class PercentFormatter {
 public:
  PercentFormatter(Budget& budget, const TrackedText& pattern, const Value& values)
      : budget_(budget), pattern_(pattern), values_(values) {}

  TrackedText run() {
    const std::string& bytes = pattern_.bytes;
    budget_.work(bytes.size() * 2);
    while (at_ < bytes.size()) {
      const size_t percent = std::min(bytes.find('%', at_), bytes.size());
      append(result_, pattern_, at_, percent);
      at_ = percent + 1;
      if (percent < bytes.size()) read_field();
    }
    const bool uses_up = is_tuple(values_) ? next_ >= values_.sequence()->items.size() : next_ > 0 || accepts_leftovers();
    if (!uses_up) fail("a format with % has fewer fields than there are values");
    result_.markup = pattern_.markup;
    return std::move(result_);
  }

 private:
  // What has elements, but for texts and tuples, may be given to a format that does not use it.
  bool accepts_leftovers() const noexcept {
    const bool is_range = values_.sequence() && values_.sequence()->kind == SequenceKind::kRange;
    return values_.dict() || is_undefined(values_) || is_list(values_) || is_range;
  }

  char peek() const {
    if (at_ >= pattern_.bytes.size()) fail("a format with % ends inside a field");
    return pattern_.bytes[at_];
  }

  const Value& next_value() {
    if (!is_tuple(values_)) {
      if (next_++ > 0) fail("a format with % has more fields than there are values");
      return values_;
    }
    const std::vector<Value>& items = values_.sequence()->items;
    if (next_ >= items.size()) fail("a format with % has more fields than there are values");
    return items[next_++];
  }

  void read_field() {
    const Value* named = peek() == '(' ? &read_name() : nullptr;
    const char type = peek();
    ++at_;
    if (type == '%') append(result_, "%");
    else add(type, named ? *named : next_value());
  }

  const Value& read_name() {
    const size_t end = pattern_.bytes.find(')', at_);
    if (end == std::string::npos) fail("a format with % ends inside a field's name");
    const std::string_view name = std::string_view(pattern_.bytes).substr(at_ + 1, end - at_ - 1);
    if (!values_.dict()) fail("a format with named fields needs a mapping");
    const Value* value = find(*values_.dict(), name);
    if (value == nullptr) fail(fmt::format("a format asks for '{}', which is not given", name));
    at_ = end + 1;
    ++next_;
    return *value;
  }

  void add(char type, const Value& value) {
    if (type == 's') return add_text(printed(budget_, value));
    if (type == 'r') return add_text(tracked_repr(budget_, value));
    if (type != 'd' && type != 'i') refuse("a format with % other than %s, %r, %d and %i");
    const auto* number = value.get<double>();
    if (number == nullptr && !is_integral(value)) fail(fmt::format("%{} needs a number, found {}", type, type_name(value)));
    if (number && !(std::fabs(*number) < 0x1p63)) fail("%d needs a number within 64 bits");
    append(result_, fmt::to_string(number ? static_cast<int64_t>(*number) : integral(value)));
  }

  void add_text(TrackedText shown) {
    if (pattern_.markup) shown = escaped(budget_, shown);
    budget_.work(shown.bytes.size() * 2 + shown.input.size() * sizeof(TextSpan));
    append(result_, shown);
  }

  Budget& budget_;
  const TrackedText& pattern_;
  const Value& values_;
  TrackedText result_;
  size_t at_ = 0;
  size_t next_ = 0;
};

}  // namespace

TrackedText brace_formatted(Budget& budget, const TrackedText& pattern, const Arguments& arguments) {
  return BraceFormatter(budget, pattern, arguments).run();
}

TrackedText percent_formatted(Budget& budget, const TrackedText& pattern, const Value& values) {
  return PercentFormatter(budget, pattern, values).run();
}

}  // namespace tritllm::jinja
