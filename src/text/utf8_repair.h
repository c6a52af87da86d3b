// Owns the turning of bytes that come in pieces into well-formed UTF-8: each part that cannot be text becomes U+FFFD. Does not own
// where the bytes come from.
#pragma once

#include <string>
#include <string_view>

namespace tritllm {

inline constexpr std::string_view kReplacementCharacter = "\uFFFD";

class Utf8Repair {
 public:
  // Appends to `out` what is certain; the start of a sequence that may still be completed is held back.
  void push(std::string_view bytes, std::string& out);
  // What was held back, as U+FFFD.
  void finish(std::string& out);

 private:
  std::string held_;
};

}  // namespace tritllm
