#include "app/chat_input.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/utf8.h"

namespace tritllm::app {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMark = "\"\"\"";
constexpr const char* kWhere = "standard input";

std::string_view without_trailing_space(std::string_view text) noexcept {
  const size_t last = text.find_last_not_of(" \t\r\n");
  return text.substr(0, last == text.npos ? 0 : last + 1);
}

bool is_block(std::string_view text) noexcept { return text.starts_with(kMark); }

bool block_is_open(std::string_view text) noexcept {
  if (!is_block(text)) return false;
  const std::string_view trimmed = without_trailing_space(text);
  return trimmed.size() < 2 * kMark.size() || !trimmed.ends_with(kMark);
}

void require_length(size_t bytes) {
  if (bytes > kLongestInput)
    throw Error(ErrorCode::kBadInput, kWhere, fmt::format("holds an input of more than {} bytes", kLongestInput));
}

// A pasted book belongs to its conversation, not to every later start.
constexpr size_t kLongestEntry = size_t{64} << 10;
constexpr uint64_t kLargestFile = uint64_t{80} << 20;

std::vector<std::string> read_entries(const fs::path& path) {
  std::vector<std::string> entries;
  if (kind_of_target(path) == FileKind::kNothing) return entries;
  const std::string text = read_text_file(path, kLargestFile);
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string place = fmt::format("{}: line {}", path.string(), ++number);
    const Json entry = parse_json(std::string_view(text).substr(begin, end - begin), place);
    if (!entry.is_string())
      throw Error(ErrorCode::kBadInput, place, fmt::format("expected a JSON string, found {}", entry.type_name()));
    entries.push_back(entry.get<std::string>());
    begin = end + 1;
  }
  return entries;
}

}  // namespace

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

std::optional<fs::path> InputHistory::usual_path() {
  // A relative path in the variable is to be ignored, says its specification.
  const auto folder = [](const char* variable) -> std::optional<fs::path> {
    const char* const value = std::getenv(variable);
    if (value == nullptr || !fs::path(value).is_absolute()) return std::nullopt;
    return value;
  };
  if (const auto state = folder("XDG_STATE_HOME")) return *state / "tritllm" / "chat_history";
  if (const auto home = folder("HOME")) return *home / ".local" / "state" / "tritllm" / "chat_history";
  return std::nullopt;
}

InputHistory::InputHistory(fs::path path) : path_(std::move(path)), entries_(read_entries(path_)) {}

void InputHistory::add(const std::string& entry) {
  if (entry.size() > kLongestEntry || (!entries_.empty() && entries_.back() == entry)) return;
  const fs::path folder = path_.parent_path();
  if (kind_of_target(folder) != FileKind::kFolder) {
    create_folders(folder);
    restrict_to_owner(folder);
  }
  fs::path lock_path = path_;
  lock_path += ".lock";
  const auto lock = FileLock::try_acquire(lock_path, FileLock::Kind::kExclusive);
  if (!lock) return;  // another chat is writing at this very moment; one entry less does no harm
  std::vector<std::string> entries = read_entries(path_);
  entries.push_back(entry);
  if (entries.size() > kMostHistoryEntries) {
    entries.erase(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(entries.size() - kMostHistoryEntries));
  }
  std::string text;
  for (const std::string& kept : entries) text += Json(kept).dump() + "\n";
  write_file_atomically(path_, text);
  restrict_to_owner(path_);
  entries_ = std::move(entries);
}

}  // namespace tritllm::app
