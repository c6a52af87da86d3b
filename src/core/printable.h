// Owns the one escape for text that came from outside, on its way to a terminal, a log or a message: what moves a cursor, forges a
// line or turns the direction of text is written in ASCII. Text of every language and emoji stays as it is.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tritllm {

// One line: control characters (C0, DEL, C1), line and paragraph separators, embeddings, overrides and isolates of direction, tags
// outside of a flag, and invalid UTF-8 become \xNN. Cut after `limit` bytes with "…".
std::string printable(std::string_view text, size_t limit = 300);

// The same for text of several lines, of any length: newlines and tabs stay.
std::string printable_lines(std::string_view text);

// A JSON document (valid UTF-8) with the same characters as \uNNNN: the same document to its readers.
std::string printable_json(std::string_view document);

}  // namespace tritllm
