// Owns how lines become one input of a chat: a block between """ and """, and the lines of a standard input that is no terminal.
// Does not own the terminal (line_editor.h) nor what an input means (chat_dialogue.h).
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace tritllm::app {

// Far more than any context holds, so that no input can exhaust the memory.
inline constexpr size_t kLongestInput = size_t{16} << 20;

struct ChatInput {
  enum class Kind {
    kText,
    kInterrupt,  // Ctrl-C; `text` is what had been typed
    kEnd,        // end of the input, or Ctrl-D
  };
  Kind kind = Kind::kEnd;
  std::string text;  // without the newline at its end
};

using ReadLine = std::function<ChatInput(const char* prompt)>;

// One line, or all lines of a block that begins with """ and goes on to a line that ends with """; the marks stay in the text.
// Throws an Error where the input ends inside a block, is too long or is not valid UTF-8.
ChatInput read_input(const ReadLine& read_line);

// What is between the marks of a block; anything else as it stands.
std::string_view without_block_marks(std::string_view text) noexcept;
bool is_block(std::string_view text) noexcept;

// A line of standard input, by plain reads; no prompt.
ChatInput read_plain_line();

}  // namespace tritllm::app
