// Owns a string that knows which of its bytes came from the request rather than from the template, through cutting and joining.
// Does not own what Python's string methods do (string_methods) or what becomes of the marks (chat_template).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/text_span.h"

namespace tritllm::jinja {

// Always valid UTF-8.
struct TrackedText {
  std::string bytes;
  std::vector<TextSpan> input;  // the bytes that came from the request: ascending, not empty, neither overlapping nor touching
  bool markup = false;          // what `safe` and `escape` return: Jinja would escape whatever is added to it

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

TrackedText slice(const TrackedText& text, size_t begin, size_t end);

}  // namespace tritllm::jinja
