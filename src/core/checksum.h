// Owns the checksum of tritllm's files: XXH3 with 128 bits, written as 32 lower-case hexadecimal digits (the library's canonical,
// big-endian form). It finds accidents (bit rot, truncation, mixed-up files); it is not a signature.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tritllm {

class Checksum {
 public:
  Checksum();
  ~Checksum();
  Checksum(const Checksum&) = delete;
  Checksum& operator=(const Checksum&) = delete;

  void add(std::span<const std::byte> bytes);
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  // Of everything added so far; more may be added afterwards.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string checksum_of(std::span<const std::byte> bytes);
inline std::string checksum_of(std::string_view text) { return checksum_of(std::as_bytes(std::span(text))); }

}  // namespace tritllm
