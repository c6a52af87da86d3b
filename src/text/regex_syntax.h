// Owns the translation of the regular expressions in tokenizer.json, which are in Oniguruma's syntax (Ruby's flavour), into
// PCRE2's: what means the same passes, what differs is rewritten, what has no equal is refused by name. Does not own matching.
#pragma once

#include <string>
#include <string_view>

namespace tritllm {

// A pattern for PCRE2 with the options UTF, UCP, MULTILINE and NO_AUTO_CAPTURE and newlines of LF alone.
std::string translate_regex(std::string_view oniguruma, const std::string& where);

}  // namespace tritllm
