#include "tasks/journal.h"

#include <fmt/format.h>

#include "core/checksum.h"
#include "core/error.h"
#include "core/json.h"

namespace tritllm {
namespace {

constexpr uint64_t kLargestJournal = uint64_t{1} << 30;

std::string journal_line(const Json& content) {
  const std::string text = content.dump();
  return fmt::format("{} {}\n", checksum_of(text), text);
}

// Takes the next line off the front of `text`; nothing where it is torn or altered.
std::optional<std::string_view> take_line(std::string_view& text) {
  constexpr size_t kDigits = 32;
  const size_t end = text.find('\n');
  if (end == text.npos || end < kDigits + 1) return std::nullopt;
  const std::string_view content = text.substr(kDigits + 1, end - kDigits - 1);
  if (text[kDigits] != ' ' || text.substr(0, kDigits) != checksum_of(content)) return std::nullopt;
  text.remove_prefix(end + 1);
  return content;
}

std::optional<Json> read_header(const std::filesystem::path& path) {
  if (kind_of(path) != FileKind::kRegular) return std::nullopt;
  const std::string text = read_text_file(path, kLargestJournal);
  std::string_view rest = text;
  const auto header = take_line(rest);
  return header ? std::optional(parse_json(*header, path.string())) : std::nullopt;
}

}  // namespace

std::optional<std::string> journal_fingerprint(const std::filesystem::path& path) {
  const auto header = read_header(path);
  if (!header) return std::nullopt;
  return JsonView(*header, path.string()).text("fingerprint");
}

bool journal_replaces_results(const std::filesystem::path& path) {
  const auto header = read_header(path);
  return header && JsonView(*header, path.string()).boolean_or("replaces_results", false);
}

Journal::Journal(std::filesystem::path path, const std::string& fingerprint, bool replaces_results)
    : path_(std::move(path)), file_(OutputFile::create_or_open(path_)) {
  load(fingerprint, replaces_results);
}

void Journal::load(const std::string& fingerprint, bool replaces_results) {
  const std::string text = read_text_file(path_, kLargestJournal);
  std::string_view rest = text;
  if (const auto header = take_line(rest)) {
    if (JsonView(parse_json(*header, path_.string()), path_.string()).text("fingerprint") != fingerprint) {
      throw Error(
          ErrorCode::kConflict, path_.string(), "the unfinished run here had another source or other options",
          "finish that run first, choose another folder (options.output.folder), or discard its work (options.output.fresh)");
    }
    while (const auto line = take_line(rest)) {
      const Json json = parse_json(*line, path_.string());
      const JsonView entry(json, path_.string());
      entries_.insert_or_assign(
          entry.integer("position"),
          JournalEntry{parse_tensor_record(entry.child("record").json(), path_.string()), entry.text("plain_checksum")});
    }
  } else {
    rest = text;
  }
  // What a kill left behind the last whole line goes.
  file_.resize(text.size() - rest.size());
  if (file_.size() != 0) return;
  Json header{{"fingerprint", fingerprint}};
  if (replaces_results) header["replaces_results"] = true;
  file_.append(journal_line(header));
}

void Journal::add(uint64_t position, JournalEntry entry) {
  file_.append(journal_line({{"position", position}, {"plain_checksum", entry.plain_checksum}, {"record", to_json(entry.record)}}));
  entries_.insert_or_assign(position, std::move(entry));
}

}  // namespace tritllm
