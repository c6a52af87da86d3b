#include "text/utf8_repair.h"

#include "core/utf8.h"

namespace tritllm {
namespace {

struct BadStart {
  size_t length;   // bytes that one U+FFFD stands for: the longest start of a valid sequence, at least one byte
  bool may_go_on;  // whether more bytes could make it valid
};

// What stands at the start of bytes that start with no valid sequence.
BadStart bad_start(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned first = byte(0);
  if (first < 0xc2 || first > 0xf4) return {1, false};
  const size_t needed = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  unsigned least = 0x80;
  unsigned most = 0xbf;
  if (first == 0xe0) least = 0xa0;
  if (first == 0xed) most = 0x9f;
  if (first == 0xf0) least = 0x90;
  if (first == 0xf4) most = 0x8f;
  size_t length = 1;
  while (length < needed && length < bytes.size() && byte(length) >= least && byte(length) <= most) {
    least = 0x80;
    most = 0xbf;
    ++length;
  }
  return {length, length == bytes.size()};
}

}  // namespace

void Utf8Repair::push(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!held_.empty()) {
    joined = std::move(held_);
    joined += bytes;
    bytes = joined;
    held_.clear();
  }
  while (!bytes.empty()) {
    size_t length = utf8_sequence_length(bytes);
    if (length > 0) {
      out += bytes.substr(0, length);
    } else {
      const BadStart bad = bad_start(bytes);
      if (bad.may_go_on) {
        held_ = bytes;
        return;
      }
      out += kReplacementCharacter;
      length = bad.length;
    }
    bytes.remove_prefix(length);
  }
}

void Utf8Repair::finish(std::string& out) {
  if (!held_.empty()) out += kReplacementCharacter;
  held_.clear();
}

}  // namespace tritllm
