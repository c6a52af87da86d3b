#include "core/error.h"

#include <fmt/format.h>

#include <cstring>

#include "core/utf8.h"

namespace tritllm {

std::string printable(std::string_view text, size_t limit) {
  std::string shown;
  size_t at = 0;
  while (at < text.size()) {
    if (shown.size() >= limit) return shown + "…";
    const size_t length = utf8_sequence_length(text.substr(at));
    const auto first = static_cast<unsigned char>(text[at]);
    if (length == 0 || first < 0x20 || first == 0x7f) {
      shown += fmt::format("\\x{:02x}", first);
      ++at;
    } else {
      shown += text.substr(at, length);
      at += length;
    }
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
