#include "core/error.h"

#include <fmt/format.h>

#include <cstring>

namespace tritllm {
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
