// Owns what a user types in a chat before anybody asks what it means: lines of a standard input that is not a terminal, blocks of
// several lines between """ and """, and the file that keeps former inputs. Does not own the terminal (line_editor.h) nor what an
// input means (chat_dialogue.h).
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tritllm::app {

// Far more than any context holds, so that no input can exhaust the memory.
inline constexpr size_t kLongestInput = size_t{16} << 20;
inline constexpr size_t kMostHistoryEntries = 1000;

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

// One line, or all lines of a block that begins with """ and ends with a line that ends with """; the marks stay in the text.
// Throws an Error where the input ends inside a block, is too long or is not valid UTF-8.
ChatInput read_input(const ReadLine& read_line);

// The text between the marks of a block; other text unchanged.
std::string_view without_block_marks(std::string_view text) noexcept;

// A line of standard input, by plain reads; no prompt.
ChatInput read_plain_line();

// What was typed in former chats: a file with one JSON string a line, oldest first, that only the user may read.
class InputHistory {
 public:
  // $XDG_STATE_HOME/tritllm/chat_history, or below ~/.local/state; nothing where neither is known.
  static std::optional<std::filesystem::path> usual_path();

  // Reads the file, where there is one.
  explicit InputHistory(std::filesystem::path path);

  const std::vector<std::string>& entries() const noexcept { return entries_; }

  // Adds to what the file holds by now, since another chat may have written to it; the oldest entries go.
  void add(const std::string& entry);

 private:
  std::filesystem::path path_;
  std::vector<std::string> entries_;
};

}  // namespace tritllm::app
