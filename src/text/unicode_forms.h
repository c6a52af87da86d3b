// Owns Unicode's normal forms in time O(n log n): utf8proc has the tables and the composition, but orders combining marks in
// quadratic time. Does not own the tables.
#pragma once

#include <string>
#include <string_view>

namespace tritllm {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// `text` is well-formed UTF-8.
std::string to_unicode_form(std::string_view text, UnicodeForm form);

}  // namespace tritllm
