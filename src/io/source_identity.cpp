#include "io/source_identity.h"

#include "core/error.h"
#include "core/file.h"
#include "core/utf8.h"
#include "io/model_folder.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr size_t kLongestValue = 200;
constexpr std::string_view kHub = "https://huggingface.co/";
constexpr std::string_view kCachePrefix = "models--";

bool is_commit(std::string_view text) { return text.size() == 40 && text.find_first_not_of("0123456789abcdef") == text.npos; }

// The next line, without its end, taken off the text.
std::string_view next_line(std::string_view& text) {
  const size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::string_view trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// A YAML scalar: quotes and comments are not part of it.
std::optional<std::string> scalar(std::string_view text) {
  text = trimmed(text);
  if (!text.empty() && (text.front() == '"' || text.front() == '\'')) {
    const char quote = text.front();
    text.remove_prefix(1);
    text = text.substr(0, text.find_last_of(quote));
  } else {
    text = trimmed(text.substr(0, text.find(" #")));
    if (text.starts_with('[') && text.ends_with(']')) return scalar(text.substr(1, text.find_first_of(",]") - 1));
  }
  text = trimmed(text);
  if (text.empty() || text.size() > kLongestValue || !is_valid_utf8(text) || text == "null" || text == "~") return std::nullopt;
  return std::string(text);
}

// What follows "key:" on the line.
std::optional<std::string_view> value_of(std::string_view line, std::string_view key) {
  if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ':') return std::nullopt;
  return line.substr(key.size() + 1);
}

// Where the hub's cache keeps a model: …/models--OWNER--NAME/snapshots/COMMIT.
struct CachePlace {
  std::string id, revision;
};

std::optional<CachePlace> cache_place(const fs::path& folder) {
  for (fs::path at = folder; at.has_relative_path(); at = at.parent_path()) {
    const fs::path snapshots = at.parent_path();
    std::string name = snapshots.parent_path().filename().string();
    if (snapshots.filename() != "snapshots" || !name.starts_with(kCachePrefix)) continue;
    name.erase(0, kCachePrefix.size());
    if (const size_t separator = name.find("--"); separator != name.npos) {
      name[separator] = '/';
      name.erase(separator + 1, 1);
    }
    return CachePlace{std::move(name), at.filename().string()};
  }
  return std::nullopt;
}

// A small file that other programs leave in a model's folder; nothing where there is none, or where it is larger than they make it.
std::optional<std::string> small_note(const fs::path& folder, std::string_view name, uint64_t largest) {
  const fs::path note = folder / name;
  if (kind_of_target(note) != FileKind::kRegular) return std::nullopt;
  std::error_code error;
  const uint64_t bytes = fs::file_size(note, error);
  if (error) throw io_error(note.string(), "read the size", error.value());
  return bytes <= largest ? std::optional(read_model_file(folder, name, largest)) : std::nullopt;
}

// `hf download --local-dir` leaves the commit of each file beside it.
std::optional<std::string> downloaded_revision(const fs::path& folder) {
  const auto text = small_note(folder, ".cache/huggingface/download/config.json.metadata", 4096);
  if (!text) return std::nullopt;
  std::string_view rest = *text;
  const std::string_view commit = next_line(rest);
  return is_commit(commit) ? std::optional(std::string(commit)) : std::nullopt;
}

// Where a Git clone of the hub came from.
std::optional<std::string> cloned_id(const fs::path& folder) {
  const auto text = small_note(folder, ".git/config", 1 << 16);
  if (!text) return std::nullopt;
  for (std::string_view rest = *text; !rest.empty();) {
    const std::string_view line = trimmed(next_line(rest));
    constexpr std::string_view kUrl = "url = ";
    if (line.starts_with(kUrl) && line.substr(kUrl.size()).starts_with(kHub)) return hub_id(line.substr(kUrl.size()));
  }
  return std::nullopt;
}

std::string last_part(const std::string& id) { return id.substr(id.rfind('/') + 1); }

}  // namespace

std::optional<std::string> hub_id(std::string_view text) {
  if (text.starts_with(kHub)) text.remove_prefix(kHub.size());
  if (text.ends_with('/')) text.remove_suffix(1);
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./";
  const size_t slash = text.find('/');
  const bool is_id = slash != text.npos && slash > 0 && slash + 1 < text.size() && text.find('/', slash + 1) == text.npos &&
                     text.find_first_not_of(kAllowed) == text.npos && text.front() != '.';
  return is_id ? std::optional(std::string(text)) : std::nullopt;
}

std::optional<std::string> front_matter_value(std::string_view card, std::string_view key) {
  if (card.starts_with("\xef\xbb\xbf")) card.remove_prefix(3);
  if (next_line(card) != "---") return std::nullopt;
  while (!card.empty()) {
    const std::string_view line = next_line(card);
    if (line == "---") return std::nullopt;
    const auto value = value_of(line, key);
    if (!value) continue;
    if (auto found = scalar(*value)) return found;
    // The first entry of a list below the key.
    const std::string_view item = trimmed(next_line(card));
    if (!item.starts_with("- ")) return std::nullopt;
    const std::string_view entry = trimmed(item.substr(2));
    if (const auto name = value_of(entry, "name")) return scalar(*name);
    return scalar(entry);
  }
  return std::nullopt;
}

SourceIdentity source_identity(const fs::path& path, std::string_view readme) {
  const bool is_file = kind_of_target(path) != FileKind::kFolder;
  // A file of the hub's cache is a link to one that has a checksum for a name, so only its folder is followed.
  const fs::path given = is_file && path.has_parent_path() ? path.parent_path() : is_file ? fs::path(".") : path;
  std::error_code error;
  const fs::path folder = fs::canonical(given, error);
  if (error) throw io_error(given.string(), "find the real path", error.value());
  SourceIdentity identity;
  identity.path_name = printable(is_file ? path.filename().string() : folder.filename().string());
  if (const auto place = cache_place(folder)) {
    identity.hub_id = place->id;
    if (is_commit(place->revision)) identity.revision = place->revision;
    identity.name = last_part(place->id);
    if (!is_file) identity.path_name = *identity.name;
  } else {
    identity.revision = downloaded_revision(folder);
    identity.hub_id = cloned_id(folder);
    if (identity.hub_id) identity.name = last_part(*identity.hub_id);
  }
  if (is_file) return identity;
  for (const std::string_view key : {"model_name", "model-index"}) {
    const auto own = front_matter_value(readme, key);
    if (!own) continue;
    identity.name = last_part(*own);
    break;
  }
  identity.license = front_matter_value(readme, "license");
  identity.license_name = front_matter_value(readme, "license_name");
  identity.license_link = front_matter_value(readme, "license_link");
  return identity;
}

}  // namespace tritllm
