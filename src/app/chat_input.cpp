#include "app/chat_input.h"

#include <fmt/format.h>

#include <cstdio>

#include "core/error.h"
#include "core/utf8.h"

namespace tritllm::app {
namespace {

constexpr std::string_view kMark = "\"\"\"";
constexpr const char* kWhere = "standard input";

std::string_view without_trailing_space(std::string_view text) noexcept {
  const size_t last = text.find_last_not_of(" \t\r\n");
  return text.substr(0, last == text.npos ? 0 : last + 1);
}

bool block_is_open(std::string_view text) noexcept {
  if (!is_block(text)) return false;
  const std::string_view trimmed = without_trailing_space(text);
  return trimmed.size() < 2 * kMark.size() || !trimmed.ends_with(kMark);
}

void require_length(size_t bytes) {
  if (bytes > kLongestInput)
    throw Error(ErrorCode::kBadInput, kWhere, fmt::format("holds an input of more than {} bytes", kLongestInput));
}

}  // namespace

bool is_block(std::string_view text) noexcept { return text.starts_with(kMark); }

ChatInput read_input(const ReadLine& read_line) {
  ChatInput input = read_line("> ");
  while (input.kind == ChatInput::Kind::kText && block_is_open(input.text)) {
    const ChatInput more = read_line("... ");
    if (more.kind == ChatInput::Kind::kEnd) {
      throw Error(ErrorCode::kBadInput, kWhere, "ends inside a message that began with \"\"\"", "end its last line with \"\"\"");
    }
    input.kind = more.kind;
    input.text += '\n' + more.text;
    require_length(input.text.size());
  }
  if (!is_valid_utf8(input.text)) throw Error(ErrorCode::kBadInput, kWhere, "holds a message that is not valid UTF-8");
  return input;
}

std::string_view without_block_marks(std::string_view text) noexcept {
  if (!is_block(text) || block_is_open(text)) return text;
  std::string_view inside = without_trailing_space(text);
  inside = inside.substr(kMark.size(), inside.size() - 2 * kMark.size());
  if (inside.starts_with('\n')) inside.remove_prefix(1);
  if (inside.ends_with('\n')) inside.remove_suffix(1);
  return inside;
}

ChatInput read_plain_line() {
  ChatInput input;
  int character = 0;
  while ((character = std::getc(stdin)) != EOF && character != '\n') {
    input.text += static_cast<char>(character);
    require_length(input.text.size());
  }
  if (std::ferror(stdin) != 0) throw Error(ErrorCode::kIo, kWhere, "cannot be read");
  if (character == EOF && input.text.empty()) return input;
  input.kind = ChatInput::Kind::kText;
  if (input.text.ends_with('\r')) input.text.pop_back();
  return input;
}

}  // namespace tritllm::app
