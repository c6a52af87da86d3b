#include "core/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/utf8.h"

namespace tritllm {

namespace {

// Characters that move a terminal's cursor, change what it shows, or turn the direction of text: C0, DEL, C1, marks and overrides
// of direction, separators of lines and paragraphs, zero-width ones that hide, and tags.
bool is_control(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x00ad || c == 0x061c || c == 0x180e || (c >= 0x200b && c <= 0x200f) ||
         (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
         (c >= 0xe0000 && c <= 0xe007f);
}

uint32_t code_point(std::string_view sequence) {
  const auto first = static_cast<unsigned char>(sequence.front());
  if (sequence.size() == 1) return first;
  uint32_t code = first & (0xffu >> (sequence.size() + 1));
  for (const char c : sequence.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3fu);
  return code;
}

}  // namespace

std::string printable(std::string_view text, size_t limit) {
  std::string shown;
  size_t at = 0;
  while (at < text.size()) {
    if (shown.size() >= limit) return shown + "…";
    const size_t length = utf8_sequence_length(text.substr(at));
    const std::string_view sequence = text.substr(at, std::max<size_t>(1, length));
    if (length == 0 || is_control(code_point(sequence))) {
      for (const char c : sequence) shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      shown += sequence;
    }
    at += sequence.size();
  }
  return shown;
}

namespace {

std::string one_line(std::string_view where, std::string_view problem, std::string_view remedy) {
  std::string line = where.empty() ? printable(problem, 2000) : printable(where, 1000) + ": " + printable(problem, 2000);
  if (!remedy.empty()) line += "; " + printable(remedy, 1000);
  return line;
}

}  // namespace

Error::Error(ErrorCode code, std::string_view where, std::string_view problem, std::string_view remedy)
    : std::runtime_error(one_line(where, problem, remedy)), code_(code), where_(where), problem_(problem), remedy_(remedy) {}

Error io_error(std::string_view where, std::string_view action, int error_number) {
  return Error(ErrorCode::kIo, where, fmt::format("cannot {}: {}", action, std::strerror(error_number)));
}

}  // namespace tritllm
