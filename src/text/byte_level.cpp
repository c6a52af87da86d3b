#include "text/byte_level.h"

#include <array>

#include "text/characters.h"

namespace tritllm {
namespace {

struct ByteMap {
  std::array<std::string, 256> text_of;
  std::array<int, 0x200> byte_of;
};

// Bytes that are visible in Latin-1 stand for themselves; the others, in order, for the code points from U+0100 on.
constexpr bool is_visible(uint32_t byte) { return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae; }

ByteMap make_map() {
  ByteMap map;
  map.byte_of.fill(-1);
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const uint32_t code_point = is_visible(byte) ? byte : next++;
    append_character(map.text_of[byte], code_point);
    map.byte_of[code_point] = static_cast<int>(byte);
  }
  return map;
}

const ByteMap& byte_map() {
  static const ByteMap map = make_map();
  return map;
}

}  // namespace

void append_byte_level(std::string& out, std::string_view text) {
  const ByteMap& map = byte_map();
  for (const char byte : text) out += map.text_of[static_cast<unsigned char>(byte)];
}

std::optional<uint8_t> byte_of_character(uint32_t code_point) noexcept {
  const ByteMap& map = byte_map();
  if (code_point >= map.byte_of.size() || map.byte_of[code_point] < 0) return std::nullopt;
  return static_cast<uint8_t>(map.byte_of[code_point]);
}

std::string undo_byte_level(std::string_view token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const Character character = character_at(token, at);
    const auto byte = byte_of_character(character.code_point);
    if (!byte) return std::string(token);
    bytes += static_cast<char>(*byte);
    at += character.length;
  }
  return bytes;
}

}  // namespace tritllm
