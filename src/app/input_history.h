// Owns what a user typed in former chats: a file with one JSON string a line, oldest first, that only the user may read. Does not
// own how a terminal walks through it (line_editor.h).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tritllm::app {

inline constexpr size_t kMostHistoryEntries = 1000;

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
