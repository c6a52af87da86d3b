#include "text/jinja/tracked_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/failure.h"
#include "text/jinja/limits.h"

namespace tritllm::jinja {
namespace {

void check_growth(const TrackedText& text, size_t more) {
  if (more > kTextLimit || text.bytes.size() > kTextLimit - more) {
    fail(fmt::format("the template builds a text of more than the limit of {} bytes", kTextLimit));
  }
}

void mark(TrackedText& text, size_t begin, size_t end) {
  if (begin == end) return;
  if (!text.input.empty() && text.input.back().end == begin) text.input.back().end = end;
  else text.input.push_back({begin, end});
}

}  // namespace

TrackedText template_text(std::string bytes) { return {std::move(bytes), {}, false}; }

TrackedText request_text(std::string bytes) { return whole_text(std::move(bytes), true); }

TrackedText whole_text(std::string bytes, bool from_request) {
  TrackedText text;
  check_growth(text, bytes.size());
  text.bytes = std::move(bytes);
  if (from_request) mark(text, 0, text.bytes.size());
  return text;
}

void append(TrackedText& to, std::string_view trusted) {
  check_growth(to, trusted.size());
  to.bytes += trusted;
}

void append_request(TrackedText& to, std::string_view bytes) {
  const size_t begin = to.bytes.size();
  append(to, bytes);
  mark(to, begin, to.bytes.size());
}

void append(TrackedText& to, const TrackedText& part) { append(to, part, 0, part.bytes.size()); }

void append(TrackedText& to, const TrackedText& part, size_t begin, size_t end) {
  check_growth(to, end - begin);
  const size_t start = to.bytes.size();
  to.bytes.append(part.bytes, begin, end - begin);
  auto span = std::partition_point(part.input.begin(), part.input.end(), [&](const TextSpan& s) { return s.end <= begin; });
  for (; span != part.input.end() && span->begin < end; ++span) {
    mark(to, start + std::max(span->begin, begin) - begin, start + std::min(span->end, end) - begin);
  }
}

TrackedText slice(const TrackedText& text, size_t begin, size_t end) {
  TrackedText result;
  append(result, text, begin, end);
  return result;
}

}  // namespace tritllm::jinja
