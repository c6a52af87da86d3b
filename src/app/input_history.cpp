#include "app/input_history.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"

namespace tritllm::app {

namespace fs = std::filesystem;

namespace {

// A pasted book belongs into the talk, not into every later start.
constexpr size_t kLongestEntry = size_t{64} << 10;
constexpr uint64_t kLargestFile = uint64_t{80} << 20;

std::vector<std::string> read_entries(const fs::path& path) {
  std::vector<std::string> entries;
  std::error_code error;
  if (!fs::exists(path, error)) return entries;
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
  if (!fs::is_directory(folder)) {
    create_folders(folder);
    fs::permissions(folder, fs::perms::owner_all);
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
  fs::permissions(path_, fs::perms::owner_read | fs::perms::owner_write);
  entries_ = std::move(entries);
}

}  // namespace tritllm::app
