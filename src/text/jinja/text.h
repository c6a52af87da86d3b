// Owns the texts of a template: strings that know which of their bytes came from the request, and the operations that filters and
// methods share. All of them keep track of the origin of each byte. Does not own how the marks are used (chat_template).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/limits.h"
#include "text/types.h"

namespace tritllm::jinja {

struct Value;

// Always valid UTF-8.
struct TrackedText {
  std::string bytes;
  std::vector<TextSpan> input;  // the bytes that came from the request: ascending, not empty, neither overlapping nor touching
  bool markup = false;          // what `safe` and `escape` return; whatever is added to it is escaped (+, %, format, join, replace)

  bool from_request() const noexcept { return !input.empty(); }
};

TrackedText template_text(std::string bytes);
TrackedText request_text(std::string bytes);

// For operations that cannot say which byte came from where: all of the result counts as the request's if anything did.
TrackedText whole_text(std::string bytes, bool from_request);

void append(TrackedText& to, std::string_view trusted);
void append(TrackedText& to, const TrackedText& part);
void append(TrackedText& to, const TrackedText& part, size_t begin, size_t end);
void append_request(TrackedText& to, std::string_view bytes);

// Markup stays markup.
TrackedText slice(const TrackedText& text, size_t begin, size_t end);

// With entities for the characters that HTML reserves, as markup; markup as it is.
TrackedText escaped(Budget& budget, const TrackedText& text);

// The position of `needle` in `text` from byte `from` on, or npos, in linear time whatever the texts are.
size_t find_bytes(std::string_view text, std::string_view needle, size_t from = 0) noexcept;

enum class LetterCase { kUpper, kLower, kTitle, kCapitalized, kTitleOfFilter };

// kTitle is str.title (a word starts after anything without case), kTitleOfFilter Jinja's filter (after white space and ( { [ < -).
TrackedText with_case(Budget& budget, const TrackedText& text, LetterCase letter_case);

// Whether the text has letters with a case and all of these are upper (else lower) case: str.isupper, str.islower.
bool all_cased_are(Budget& budget, const TrackedText& text, bool upper);

// Without white space, or without any of the characters of `chars`, at its ends.
TrackedText stripped(Budget& budget, const TrackedText& text, const TrackedText* chars, bool left, bool right);

// The first `count` occurrences replaced; all where negative.
TrackedText replaced(Budget& budget, const TrackedText& text, const TrackedText& old, const TrackedText& with, int64_t count);

TrackedText joined(Budget& budget, const TrackedText& separator, const std::vector<Value>& items, bool only_texts);

std::vector<TrackedText> lines_of(Budget& budget, const TrackedText& text, bool keep_ends);

TrackedText repeated(Budget& budget, const TrackedText& text, int64_t count);

}  // namespace tritllm::jinja
