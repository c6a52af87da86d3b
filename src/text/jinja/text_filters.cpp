// The filters that give texts.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "text/jinja/arguments.h"
#include "text/jinja/compare.h"
#include "text/jinja/failure.h"
#include "text/jinja/filters.h"
#include "text/jinja/formatting.h"
#include "text/jinja/json_filter.h"
#include "text/jinja/lookup.h"
#include "text/jinja/print.h"
#include "text/jinja/text_operations.h"
#include "text/jinja/unicode.h"

namespace tritllm::jinja {
namespace {

Value trim(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("trim", arguments, {"chars"});
  return text_value(stripped(budget, printed(budget, input), bound.has(0) ? &bound.text(0) : nullptr, true, true));
}

template <LetterCase kCase>
Value change_case(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("a change of case", arguments, {});
  return text_value(with_case(budget, printed(budget, input), kCase));
}

Value string(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("string", arguments, {});
  return input.text() ? input : text_value(printed(budget, input));
}

Value safe(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("safe", arguments, {});
  TrackedText text = printed(budget, input);
  budget.work(text.bytes.size());
  text.markup = true;
  return text_value(std::move(text));
}

Value escape(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("escape", arguments, {});
  TrackedText text = printed(budget, input);
  if (!text.markup) {
    static constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
        {"&", "&amp;"}, {">", "&gt;"}, {"<", "&lt;"}, {"'", "&#39;"}, {"\"", "&#34;"}};
    for (const auto& [character, entity] : kEntities) {
      const TrackedText with = whole_text(std::string(entity), text.from_request());
      text = replaced(budget, text, template_text(std::string(character)), with, -1);
    }
  }
  text.markup = true;
  return text_value(std::move(text));
}

Value replace(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("replace", arguments, {"old", "new", "count"}, 2);
  return text_value(replaced(budget, printed(budget, input), printed(budget, bound.at(0)), printed(budget, bound.at(1)),
                             bound.has(2) ? bound.integer(2, -1) : -1));
}

Value join(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("join", arguments, {"d", "attribute"});
  std::vector<Value> items = elements(budget, input);
  if (bound.has(1)) {
    for (Value& item : items) item = path_of(budget, item, bound.at(1));
  }
  return text_value(joined(budget, bound.get(0) ? printed(budget, *bound.get(0)) : TrackedText{}, items, false));
}

Value indent(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("indent", arguments, {"width", "first", "blank"});
  if (!input.text()) fail(fmt::format("indent needs a string, found {}", type_name(input)));
  TrackedText indentation;
  if (bound.get(0) && bound.get(0)->text()) indentation = *bound.get(0)->text();
  else indentation = repeated(budget, template_text(" "), bound.integer(0, 4));
  const bool first = bound.boolean(1, false), blank = bound.boolean(2, false);
  TrackedText text = *input.text();
  append(text, "\n");  // so that a line end at the very end counts as a line of its own
  TrackedText result;
  bool first_line = true;
  for (const TrackedText& line : lines_of(budget, text, false)) {
    budget.work((indentation.bytes.size() + line.bytes.size()) * 2);
    if (!first_line) append(result, "\n");
    if (first_line ? first : blank || !line.bytes.empty()) append(result, indentation);
    append(result, line);
    first_line = false;
  }
  result.markup = input.text()->markup;
  return text_value(std::move(result));
}

Value center(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("center", arguments, {"width"});
  const TrackedText text = printed(budget, input);
  budget.work(text.bytes.size() * 2);
  const auto [left, right] = centering(count_code_points(text.bytes), bound.integer(0, 80));
  TrackedText result = template_text(std::string(left, ' '));
  append(result, text);
  append(result, std::string(right, ' '));
  budget.work(result.bytes.size());
  return text_value(std::move(result));
}

Value truncate(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  if (!input.text()) fail(fmt::format("truncate needs a string, found {}", type_name(input)));
  const TrackedText& text = *input.text();
  budget.work(text.bytes.size() * 2);
  const TrackedText end = bound.get(2) ? bound.text(2) : template_text("...");
  const int64_t length = bound.integer(0, 255), leeway = bound.has(3) ? bound.integer(3, 0) : 5;
  const auto end_letters = static_cast<int64_t>(count_code_points(end.bytes));
  if (length < end_letters || leeway < 0) fail("truncate is asked for less than the length of its ending");
  const auto letters = static_cast<int64_t>(count_code_points(text.bytes));
  if (letters <= length || letters - length <= leeway) return input;
  size_t cut = byte_of_code_point(text.bytes, static_cast<size_t>(length - end_letters));
  if (!bound.boolean(1, false)) {
    const size_t space = cut == 0 ? std::string::npos : text.bytes.rfind(' ', cut - 1);
    if (space != std::string::npos) cut = space;
  }
  TrackedText result = slice(text, 0, cut);
  append(result, end);
  return text_value(std::move(result));
}

Value format(Budget& budget, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.keywords.empty()) fail("format takes values by position or by name, not both");
  const TrackedText pattern = printed(budget, input);
  if (pattern.markup) refuse("format of a text marked as safe");
  if (arguments.keywords.empty()) return text_value(percent_formatted(budget, pattern, tuple_value(arguments.positional)));
  std::vector<std::pair<Value, Value>> items;
  for (const auto& [name, value] : arguments.keywords) items.emplace_back(template_value(name), value);
  return text_value(percent_formatted(budget, pattern, dict_value(std::move(items))));
}

Value urlencode(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("urlencode", arguments, {});
  if (!input.text() && is_iterable(input)) refuse("urlencode of anything but a text or a number");
  const TrackedText text = printed(budget, input);
  budget.work(text.bytes.size() * 4);
  std::string encoded;
  for (const char c : text.bytes) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~/").find(c) != std::string_view::npos;
    if (plain) encoded += c;
    else encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return text_value(whole_text(std::move(encoded), text.from_request()));
}

Value wordcount(Budget& budget, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("wordcount", arguments, {});
  const TrackedText text = printed(budget, input);
  budget.work(text.bytes.size());
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.bytes.size();) {
    const bool word = is_word(next_code_point(text.bytes, at));
    if (word && !inside) ++words;
    inside = word;
  }
  return integer(words);
}

}  // namespace

std::vector<NamedFilter> text_filters() {
  return {{"trim", trim},
          {"upper", change_case<LetterCase::kUpper>},
          {"lower", change_case<LetterCase::kLower>},
          {"title", change_case<LetterCase::kTitleOfFilter>},
          {"capitalize", change_case<LetterCase::kCapitalized>},
          {"string", string},
          {"safe", safe},
          {"e", escape},
          {"escape", escape},
          {"replace", replace},
          {"join", join},
          {"indent", indent},
          {"center", center},
          {"truncate", truncate},
          {"format", format},
          {"urlencode", urlencode},
          {"wordcount", wordcount},
          {"tojson", to_json}};
}

}  // namespace tritllm::jinja
