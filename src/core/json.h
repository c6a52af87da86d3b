// Owns the reading of JSON that nobody has vouched for: strict syntax, valid UTF-8, no duplicate keys, bounded depth, and typed
// look-ups whose errors name file and JSON pointer. Does not own what any document means.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json_fwd.h"

namespace tritllm {

inline constexpr int kJsonDepthLimit = 64;
inline constexpr uint64_t kLargestJsonInteger = std::numeric_limits<int64_t>::max();

// `where` names the source in errors, usually a path.
Json parse_json(std::string_view text, const std::string& where, int depth_limit = kJsonDepthLimit);

// For files that Python's json module may have written: the words NaN, Infinity and -Infinity are numbers. Refuses documents of
// more than a million values, which would take gigabytes.
Json parse_python_json(std::string_view text, const std::string& where, int depth_limit = kJsonDepthLimit);

// The text of a document as this project writes files: two spaces of indent, UTF-8, newline at the end. Numbers that are not
// finite are written as Python writes them.
std::string json_text(const Json& document);

// Reads a document whose bulk is in a few long lists: a tree of it all would take some forty times its bytes. `lists` are JSON
// pointers to objects or arrays ("" is the document itself). Their members are handed to `take`, one by one, with the list's
// index, and are not kept; an array's members have an empty key. Returns the rest of the document, with these lists empty. Equal
// keys in a list are the taker's business. Refuses members of more than 1,000 values, and a rest of more than a million.
using TakeJsonMember = std::function<void(size_t list, std::string& key, Json& value)>;
Json parse_json_in_parts(std::string_view text, const std::string& where, std::span<const std::string_view> lists,
                         const TakeJsonMember& take, int depth_limit = kJsonDepthLimit);

// A value inside a document and where it stands, e.g. "model/config.json: /rope_scaling/factor". Look-ups throw an Error that
// names the place where a value has the wrong type or range. An optional field counts as absent where it is null.
class JsonView {
 public:
  // `where` names the document, or the part of it that `json` is. The value outlives the view.
  JsonView(const Json& json, std::string where) : json_(&json), where_(std::move(where)) {}

  const Json& json() const noexcept { return *json_; }
  const std::string& where() const noexcept { return where_; }

  // This value.
  std::string text() const;
  uint64_t integer(uint64_t least = 0, uint64_t most = kLargestJsonInteger) const;
  double number(double least, double most) const;  // never NaN; infinite only where the range is
  bool boolean() const;
  std::vector<JsonView> items() const;                            // of an array
  std::vector<std::pair<std::string, JsonView>> members() const;  // of an object

  // A field of this object.
  bool has(std::string_view key) const;  // and it is not null
  JsonView child(std::string_view key) const;
  std::optional<JsonView> optional_child(std::string_view key) const;
  std::string text(std::string_view key) const { return child(key).text(); }
  uint64_t integer(std::string_view key, uint64_t least = 0, uint64_t most = kLargestJsonInteger) const;
  double number(std::string_view key, double least, double most) const { return child(key).number(least, most); }
  bool boolean(std::string_view key) const { return child(key).boolean(); }
  std::optional<std::string> optional_text(std::string_view key) const;
  std::optional<uint64_t> optional_integer(std::string_view key, uint64_t least = 0, uint64_t most = kLargestJsonInteger) const;
  std::optional<double> optional_number(std::string_view key, double least, double most) const;
  std::optional<bool> optional_boolean(std::string_view key) const;
  bool boolean_or(std::string_view key, bool fallback) const { return optional_boolean(key).value_or(fallback); }

  // Throws "WHERE: expected EXPECTED, found VALUE".
  [[noreturn]] void refuse(std::string_view expected) const;

 private:
  JsonView(const Json& json, std::string where, bool is_nested) : json_(&json), where_(std::move(where)), is_nested_(is_nested) {}
  JsonView below(const Json& json, std::string_view step) const;

  const Json* json_;
  std::string where_;
  bool is_nested_ = false;  // where_ ends with a JSON pointer already
};

}  // namespace tritllm
