#include "core/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "core/utf8.h"

namespace tritllm {
namespace {

constexpr uint32_t kBlackFlag = 0x1f3f4;  // begins the flags of regions, which are spelt in tags

bool is_tag(uint32_t c) { return c >= 0xe0020 && c <= 0xe007f; }

// Joiners, soft hyphens and marks of direction for one character are part of ordinary text in several scripts.
bool is_harmful(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x206f) || c == 0xfeff ||
         (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe007f);
}

uint32_t code_point(std::string_view sequence) {
  const auto first = static_cast<unsigned char>(sequence.front());
  if (sequence.size() == 1) return first;
  uint32_t code = first & (0xffu >> (sequence.size() + 1));
  for (const char c : sequence.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3fu);
  return code;
}

struct Piece {
  std::string_view bytes;  // a character, or one byte that belongs to none
  uint32_t code;
  bool harmful;
};

// Takes the text apart, front first.
class Pieces {
 public:
  explicit Pieces(std::string_view text) : rest_(text) {}
  bool empty() const { return rest_.empty(); }
  Piece next() {
    const size_t length = utf8_sequence_length(rest_);
    const std::string_view bytes = rest_.substr(0, std::max<size_t>(1, length));
    rest_.remove_prefix(bytes.size());
    if (length == 0) return {bytes, 0, true};
    const uint32_t code = code_point(bytes);
    const bool spells_flag = in_flag_ && is_tag(code);
    in_flag_ = code == kBlackFlag || spells_flag;
    return {bytes, code, is_harmful(code) && !spells_flag};
  }

 private:
  std::string_view rest_;
  bool in_flag_ = false;
};

void append_escaped(std::string& shown, std::string_view bytes) {
  for (const char c : bytes) shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
}

}  // namespace

std::string printable(std::string_view text, size_t limit) {
  std::string shown;
  for (Pieces pieces(text); !pieces.empty();) {
    if (shown.size() >= limit) return shown + "…";
    const Piece piece = pieces.next();
    if (piece.harmful) append_escaped(shown, piece.bytes);
    else shown += piece.bytes;
  }
  return shown;
}

std::string printable_lines(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  for (Pieces pieces(text); !pieces.empty();) {
    const Piece piece = pieces.next();
    if (piece.harmful && piece.bytes != "\n" && piece.bytes != "\t") append_escaped(shown, piece.bytes);
    else shown += piece.bytes;
  }
  return shown;
}

std::string printable_json(std::string_view document) {
  std::string shown;
  shown.reserve(document.size());
  for (Pieces pieces(document); !pieces.empty();) {
    const Piece piece = pieces.next();
    // Below U+0020 there is only the white space between values: within strings JSON has escaped it.
    if (!piece.harmful || piece.code < 0x20) {
      shown += piece.bytes;
    } else if (piece.code < 0x10000) {
      shown += fmt::format("\\u{:04x}", piece.code);
    } else {
      const uint32_t rest = piece.code - 0x10000;
      shown += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
    }
  }
  return shown;
}

}  // namespace tritllm
