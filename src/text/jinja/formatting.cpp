#include "text/jinja/formatting.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "text/jinja/compare.h"
#include "text/jinja/failure.h"
#include "text/jinja/format_spec.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace tritllm::jinja {
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
    const std::string_view spec = colon < field.size() ? field.substr(colon + 1) : std::string_view{};
    std::string_view name = field.substr(0, colon);
    char conversion = '\0';
    if (const size_t mark = name.find('!'); mark != std::string_view::npos) {
      if (name.size() != mark + 2 || (name[mark + 1] != 'r' && name[mark + 1] != 's'))
        refuse("a conversion other than !r and !s in a format");
      conversion = name[mark + 1];
      name = name.substr(0, mark);
    }
    add(argument(name), conversion, spec);
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

  void add(const Value& value, char conversion, std::string_view spec) {
    const TrackedText shown = conversion == 'r' ? tracked_repr(budget_, value) : printed(budget_, value);
    budget_.work(shown.bytes.size() * 2 + shown.input.size() * sizeof(TextSpan));
    if (spec.empty()) append(result_, shown);
    else append(result_, formatted(budget_, conversion ? text_value(shown) : value, parse_format_spec(spec)));
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
    FormatSpec spec;
    spec.align = '>';
    for (; std::string_view("-+ 0#").find(peek()) != std::string_view::npos; ++at_) {
      if (peek() == '-') spec.align = '<';
      else if (peek() == '0') spec.fill = '0';
      else if (peek() == '#') refuse("the flag # in a format with %");
      else spec.sign = spec.sign == '+' ? '+' : peek();
    }
    spec.width = read_number();
    if (peek() == '.') {
      ++at_;
      spec.precision = read_number();
    }
    const char type = peek();
    ++at_;
    if (type == '%') append(result_, "%");
    else add(type, named ? *named : next_value(), spec);
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

  int64_t read_number() {
    int64_t number = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      number = number * 10 + (peek() - '0');
      if (number > 10'000) fail("a field of a format is too wide");
    }
    if (peek() == '*') refuse("a width or precision among the values of a format");
    return number;
  }

  void add(char type, const Value& value, FormatSpec spec) {
    if (is_undefined(value) && type != 's') fail(reason_of(value));
    if (type == 's' || type == 'r') {
      const TrackedText shown = type == 's' ? printed(budget_, value) : tracked_repr(budget_, value);
      budget_.work(shown.bytes.size() * 2 + shown.input.size() * sizeof(TextSpan));
      spec.sign = '-';
      spec.fill = ' ';
      append(result_, formatted(budget_, text_value(shown), spec));
      return;
    }
    if (type == 'c') refuse("the format %c");
    if (!is_integral(value) && !value.is<double>()) {
      fail(fmt::format("the format %{} needs a number, found {}", type, type_name(value)));
    }
    if (spec.fill == '0' && spec.align == '>') spec.align = '=';
    else spec.fill = ' ';
    if (type == 'd' || type == 'i' || type == 'u') add_whole(value, spec);
    else if (std::string_view("fFeEgG").find(type) != std::string_view::npos) add_real(type, value, spec);
    else if (std::string_view("xXo").find(type) != std::string_view::npos && is_integral(value)) add_based(type, value, spec);
    else refuse(fmt::format("the format %{}", type));
  }

  void add_whole(const Value& value, FormatSpec& spec) {
    if (spec.precision > 0) refuse("a precision of %d");
    spec.precision = -1;
    spec.type = 'd';
    const auto* number = value.get<double>();
    if (number && !(std::fabs(*number) < 0x1p63)) fail("%d needs a number within 64 bits");
    append(result_, formatted(budget_, integer(number ? static_cast<int64_t>(*number) : integral(value)), spec));
  }

  void add_real(char type, const Value& value, FormatSpec& spec) {
    spec.type = type;
    append(result_, formatted(budget_, is_integral(value) ? real(static_cast<double>(integral(value))) : value, spec));
  }

  void add_based(char type, const Value& value, FormatSpec& spec) {
    if (spec.precision >= 0) refuse("a precision of %x and %o");
    spec.type = type;
    append(result_, formatted(budget_, integer(integral(value)), spec));
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
