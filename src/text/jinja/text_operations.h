// Owns what filters and methods of texts have in common: change of case, cutting at white space, replacement, joining, padding. All
// of them keep track of which byte came from the request.
#pragma once

#include <cstdint>
#include <optional>

#include "text/jinja/value.h"

namespace tritllm::jinja {

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

// The two sides of the padding that str.center puts around `length` letters to make them `width`.
std::pair<size_t, size_t> centering(size_t length, int64_t width);

}  // namespace tritllm::jinja
