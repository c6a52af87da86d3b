// Owns the one exception type of tritllm. Does not own how an error is shown: main, the HTTP routes, the C API and the Python
// module each catch it once and print or translate it; the library itself never prints and never aborts.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "core/printable.h"

namespace tritllm {

enum class ErrorCode {
  kUsage,        // the caller asked for something that cannot be: bad flag, bad option value
  kBadInput,     // a file or a request breaks its format
  kNotFound,     // a file, tensor or name is missing
  kIo,           // the operating system refused a read or a write
  kConflict,     // another run, or the result of another run, stands in the way
  kUnsupported,  // well-formed, but not something this software handles
};

// One failure: where it is (file, byte offset, tensor, JSON pointer), what is wrong (expected and found), what to do about it.
// what() is "WHERE: PROBLEM; REMEDY" on one line; control characters taken from input are escaped, so that a hostile name
// cannot forge lines in a log or move a terminal's cursor.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, std::string_view where, std::string_view problem, std::string_view remedy = {});

  ErrorCode code() const noexcept { return code_; }
  const std::string& where() const noexcept { return where_; }
  const std::string& problem() const noexcept { return problem_; }
  const std::string& remedy() const noexcept { return remedy_; }

 private:
  ErrorCode code_;
  std::string where_, problem_, remedy_;
};

// An Error of kIo for the current errno: "WHERE: cannot ACTION: reason".
Error io_error(std::string_view where, std::string_view action, int error_number);

}  // namespace tritllm
