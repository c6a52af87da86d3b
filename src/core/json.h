// Owns the reading of JSON that nobody has vouched for: strict syntax, valid UTF-8, no duplicate keys, bounded depth, and typed
// look-ups whose errors name file and JSON pointer. Does not own what any document means.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace tritllm {

// Objects keep the order of their keys, so that a document that is read, changed and written stays recognisable.
using Json = nlohmann::ordered_json;

inline constexpr int kJsonDepthLimit = 64;
inline constexpr uint64_t kLargestJsonInteger = std::numeric_limits<int64_t>::max();

// `where` names the source in errors, usually a path.
Json parse_json(std::string_view text, const std::string& where, int depth_limit = kJsonDepthLimit);

// The text of a document as this project writes files: two spaces of indent, UTF-8, newline at the end.
std::string json_text(const Json& document);

// Fields of an object; each throws an Error naming `where` and `key` where the field has the wrong type or range, and the
// first three also where it is missing.
const Json& json_field(const Json& object, std::string_view key, const std::string& where);
std::string json_string(const Json& object, std::string_view key, const std::string& where);
uint64_t json_integer(const Json& object, std::string_view key, const std::string& where, uint64_t least = 0,
                      uint64_t most = kLargestJsonInteger);
std::optional<std::string> json_optional_string(const Json& object, std::string_view key, const std::string& where);
std::optional<uint64_t> json_optional_integer(const Json& object, std::string_view key, const std::string& where,
                                              uint64_t least = 0, uint64_t most = kLargestJsonInteger);
// Any finite JSON number.
std::optional<double> json_optional_number(const Json& object, std::string_view key, const std::string& where, double least,
                                           double most);
bool json_boolean_or(const Json& object, std::string_view key, bool fallback, const std::string& where);

}  // namespace tritllm
