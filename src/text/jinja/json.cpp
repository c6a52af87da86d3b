// Owns the filter `tojson` as transformers defines it for chat templates: Python's json.dumps, without escapes for HTML.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "text/jinja/formatting.h"
#include "text/jinja/limits.h"
#include "text/jinja/operators.h"
#include "text/jinja/value.h"
#include "text/unicode.h"

namespace tritllm::jinja {
namespace {

struct JsonStyle {
  bool ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // of one level; nothing: all on one line
  std::string item_separator = ", ", key_separator = ": ";
};

class JsonWriter {
 public:
  JsonWriter(Budget& budget, const JsonStyle& style) : budget_(budget), style_(style) {}

  std::string take() { return std::move(out_); }

  void write(const Value& value, size_t level) {
    budget_.work(sizeof(Value));
    if (value.text()) write_text(value.text()->bytes);
    else if (is_list(value) || is_tuple(value)) write_array(value.sequence()->items, level);
    else if (value.dict()) write_object(*value.dict(), level);
    else if (const auto name = scalar(value)) out_ += *name;
    else fail(fmt::format("a value of type {} cannot be written as JSON", type_name(value)));
  }

 private:
  // Numbers, booleans and None: the same as values and, in quotes, as keys.
  static std::optional<std::string> scalar(const Value& value) {
    if (value.is<None>()) return "null";
    if (const auto* flag = value.get<bool>()) return *flag ? "true" : "false";
    if (const auto* whole = value.get<int64_t>()) return std::to_string(*whole);
    const auto* number = value.get<double>();
    if (number == nullptr) return std::nullopt;
    if (std::isnan(*number)) return "NaN";
    if (std::isinf(*number)) return *number > 0 ? "Infinity" : "-Infinity";
    return repr(*number);
  }

  void write_text(std::string_view text) {
    budget_.work(text.size() * 2);
    if (out_.size() + text.size() > kTextLimit) fail("the JSON of a value is beyond the limit of a text's size");
    out_ += '"';
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      const char32_t c = next_code_point(text, at);
      if (c == '"') out_ += "\\\"";
      else if (c == '\\') out_ += "\\\\";
      else if (c == '\n') out_ += "\\n";
      else if (c == '\r') out_ += "\\r";
      else if (c == '\t') out_ += "\\t";
      else if (c == '\b') out_ += "\\b";
      else if (c == '\f') out_ += "\\f";
      else if (c < 0x20 || (style_.ascii && c > 0x7e)) write_escape(c);
      else out_ += text.substr(begin, at - begin);
    }
    out_ += '"';
  }

  void write_escape(char32_t c) {
    const auto number = static_cast<uint32_t>(c);
    if (number == 0x7f) out_ += '\x7f';
    else if (number < 0x10000) out_ += fmt::format("\\u{:04x}", number);
    else out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((number - 0x10000) >> 10), 0xdc00 + ((number - 0x10000) & 0x3ff));
  }

  void new_line(size_t level) {
    if (!style_.indent) return;
    budget_.work(style_.indent->size() * level + 1);
    if (out_.size() + style_.indent->size() * level > kTextLimit) fail("the JSON of a value is beyond the limit of a text's size");
    out_ += '\n';
    for (size_t i = 0; i < level; ++i) out_ += *style_.indent;
  }

  void write_array(const std::vector<Value>& items, size_t level) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(level + 1);
      write(items[i], level + 1);
    }
    new_line(level);
    out_ += ']';
  }

  void write_object(const Dict& dict, size_t level) {
    if (dict.items.empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(), [&](const auto* a, const auto* b) { return less(budget_, a->first, b->first); });
    }
    out_ += '{';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(level + 1);
      write_key(items[i]->first);
      out_ += style_.key_separator;
      write(items[i]->second, level + 1);
    }
    new_line(level);
    out_ += '}';
  }

  void write_key(const Value& key) {
    if (key.text()) write_text(key.text()->bytes);
    else if (const auto name = scalar(key)) out_ += fmt::format("\"{}\"", *name);
    else fail(fmt::format("a value of type {} cannot be a key in JSON", type_name(key)));
  }

  Budget& budget_;
  const JsonStyle& style_;
  std::string out_;
};

std::string separator(const Value& value) {
  if (!value.text()) fail("the separators of tojson must be two strings");
  return value.text()->bytes;
}

JsonStyle style_of(Budget& budget, const BoundArguments& arguments) {
  JsonStyle style;
  style.ascii = arguments.boolean(0, false);
  style.sort_keys = arguments.boolean(3, false);
  if (arguments.has(1)) {
    if (arguments.get(1)->text()) {
      style.indent = arguments.get(1)->text()->bytes;
    } else {
      const int64_t width = std::max<int64_t>(0, arguments.integer(1, 0));
      if (width > 1000) fail("tojson indents by 1000 at most");
      style.indent = std::string(static_cast<size_t>(width), ' ');
    }
    style.item_separator.assign(1, ',');
  }
  if (arguments.has(2)) {
    const std::vector<Value> separators = elements(budget, arguments.at(2));
    if (separators.size() != 2) fail("the separators of tojson must be two strings");
    style.item_separator = separator(separators[0]);
    style.key_separator = separator(separators[1]);
  }
  return style;
}

}  // namespace

Value to_json(Budget& budget, const Value& value, const Arguments& arguments) {
  const BoundArguments bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  const JsonStyle style = style_of(budget, bound);
  JsonWriter writer(budget, style);
  writer.write(value, 0);
  // Escapes move bytes about, so the whole counts as the request's where any text of it does.
  bool marked = from_request(budget, value);
  for (const size_t i : {size_t{1}, size_t{2}}) marked = marked || (bound.has(i) && from_request(budget, bound.at(i)));
  return text_value(whole_text(writer.take(), marked));
}

}  // namespace tritllm::jinja
