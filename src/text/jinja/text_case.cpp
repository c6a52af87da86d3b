// The methods of texts about letters: change of case and the questions isdigit, isalpha, islower and their kin.
#include <algorithm>

#include "text/jinja/arguments.h"
#include "text/jinja/failure.h"
#include "text/jinja/methods.h"
#include "text/jinja/text_operations.h"
#include "text/jinja/unicode.h"

namespace tritllm::jinja {
namespace {

template <LetterCase kCase>
Value change_case(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("a change of case", arguments, {});
  return text_value(with_case(budget, *self.text(), kCase));
}

using Question = bool (*)(char32_t) noexcept;

// Whether there are letters and all of them are of the kind.
template <Question kQuestion>
Value all_are(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("a question about letters", arguments, {});
  const std::string& bytes = self.text()->bytes;
  budget.work(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    if (!kQuestion(next_code_point(bytes, at))) return boolean(false);
  }
  return boolean(!bytes.empty());
}

bool is_ascii(char32_t c) noexcept { return c < 0x80; }

bool is_digit_or_refused(char32_t c) {
  if (!is_decimal(c) && c >= 0x80 && is_word(c) && !is_alphabetic(c)) refuse("isdigit of a digit that is no decimal (such as ²)");
  return is_decimal(c);
}

Value isdigit_method(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("isdigit", arguments, {});
  const std::string& bytes = self.text()->bytes;
  budget.work(bytes.size());
  bool all = !bytes.empty();
  for (size_t at = 0; all && at < bytes.size();) all = is_digit_or_refused(next_code_point(bytes, at));
  return boolean(all);
}

Value isascii(Budget& budget, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("isascii", arguments, {});
  const std::string& bytes = self.text()->bytes;
  budget.work(bytes.size());
  return boolean(std::all_of(bytes.begin(), bytes.end(), [](char c) { return is_ascii(static_cast<unsigned char>(c)); }));
}

bool is_alphanumeric(char32_t c) noexcept { return is_alphabetic(c) || (is_word(c) && c != '_'); }

}  // namespace

std::vector<NamedMethod> case_methods() {
  return {{"upper", change_case<LetterCase::kUpper>},
          {"lower", change_case<LetterCase::kLower>},
          {"title", change_case<LetterCase::kTitle>},
          {"capitalize", change_case<LetterCase::kCapitalized>},
          {"isspace", all_are<is_space>},
          {"isalpha", all_are<is_alphabetic>},
          {"isalnum", all_are<is_alphanumeric>},
          {"isdecimal", all_are<is_decimal>},
          {"isdigit", isdigit_method},
          {"isnumeric", isdigit_method},
          {"isascii", isascii},
          {"islower",
           [](Budget& budget, const Value& self, const Arguments& arguments) {
             const BoundArguments bound("islower", arguments, {});
             return boolean(all_cased_are(budget, *self.text(), false));
           }},
          {"isupper", [](Budget& budget, const Value& self, const Arguments& arguments) {
             const BoundArguments bound("isupper", arguments, {});
             return boolean(all_cased_are(budget, *self.text(), true));
           }}};
}

}  // namespace tritllm::jinja
