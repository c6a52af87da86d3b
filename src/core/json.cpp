#include "core/json.h"

#include <fmt/format.h>

#include <unordered_set>
#include <vector>

#include "core/error.h"

namespace tritllm {
namespace {

// Builds the document from parser events, so that depth and duplicate keys are refused while reading: no tree deeper than the
// limit ever exists.
class StrictBuilder : public nlohmann::json_sax<Json> {
 public:
  StrictBuilder(const std::string& where, int depth_limit) : where_(where), depth_limit_(depth_limit) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) {
      throw Error(ErrorCode::kBadInput, where_, fmt::format("the key \"{}\" stands twice in one JSON object", name));
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    std::string reason = error.what();
    if (const size_t start = reason.find("; "); start != std::string::npos) reason = reason.substr(start + 2);
    else if (const size_t end = reason.find("] "); end != std::string::npos) reason = reason.substr(end + 2);
    throw Error(ErrorCode::kBadInput, where_, fmt::format("not valid JSON at byte {}: {}", position, reason));
  }

 private:
  Json* place(Json&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    // Keys are known to be new, so appending spares ordered_json's linear search for each of them.
    auto& members = open_.back()->get_ref<Json::object_t&>();
    static_cast<std::vector<Json::object_t::value_type>&>(members).emplace_back(std::move(key_), std::move(value));
    return &members.back().second;
  }

  template <typename Value>
  bool add(Value&& value) {
    place(Json(std::forward<Value>(value)));
    return true;
  }

  bool open(Json&& container) {
    if (open_.size() >= static_cast<size_t>(depth_limit_)) {
      throw Error(ErrorCode::kBadInput, where_, fmt::format("JSON nested deeper than the limit of {} levels", depth_limit_));
    }
    open_.push_back(place(std::move(container)));
    keys_.emplace_back();
    return true;
  }

  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  const std::string& where_;
  int depth_limit_;
  Json root_;
  std::vector<Json*> open_;                            // containers not yet closed, outermost first
  std::vector<std::unordered_set<std::string>> keys_;  // keys seen in each of them
  std::string key_;
};

Error wrong_field(const std::string& where, std::string_view key, const std::string& expected, const Json& found) {
  std::string shown = found.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shown.size() > 60) shown = shown.substr(0, 60) + "…";
  return Error(ErrorCode::kBadInput, fmt::format("{}: /{}", where, key), fmt::format("expected {}, found {}", expected, shown));
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where, int depth_limit) {
  // The parser takes a NUL byte for the end of its input and would ignore whatever stands behind it.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw Error(ErrorCode::kBadInput, where, fmt::format("not valid JSON at byte {}: a NUL byte", nul + 1));
  }
  StrictBuilder builder(where, depth_limit);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string json_text(const Json& document) { return document.dump(2, ' ', false, Json::error_handler_t::strict) + "\n"; }

const Json& json_field(const Json& object, std::string_view key, const std::string& where) {
  if (!object.is_object()) throw Error(ErrorCode::kBadInput, where, fmt::format("expected a JSON object that holds \"{}\"", key));
  const auto found = object.find(key);
  if (found == object.end()) throw Error(ErrorCode::kBadInput, where, fmt::format("the field \"{}\" is missing", key));
  return *found;
}

std::string json_string(const Json& object, std::string_view key, const std::string& where) {
  const Json& field = json_field(object, key, where);
  if (!field.is_string()) throw wrong_field(where, key, "a string", field);
  return field.get<std::string>();
}

uint64_t json_integer(const Json& object, std::string_view key, const std::string& where, uint64_t least, uint64_t most) {
  const Json& field = json_field(object, key, where);
  const bool whole = field.is_number_unsigned() || (field.is_number_integer() && field.get<int64_t>() >= 0);
  if (!whole || field.get<uint64_t>() < least || field.get<uint64_t>() > most) {
    throw wrong_field(where, key, fmt::format("a whole number from {} to {}", least, most), field);
  }
  return field.get<uint64_t>();
}

namespace {

bool absent(const Json& object, std::string_view key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null();
}

}  // namespace

std::optional<std::string> json_optional_string(const Json& object, std::string_view key, const std::string& where) {
  if (absent(object, key)) return std::nullopt;
  return json_string(object, key, where);
}

std::optional<uint64_t> json_optional_integer(const Json& object, std::string_view key, const std::string& where, uint64_t least,
                                              uint64_t most) {
  if (absent(object, key)) return std::nullopt;
  return json_integer(object, key, where, least, most);
}

std::optional<double> json_optional_number(const Json& object, std::string_view key, const std::string& where, double least,
                                           double most) {
  if (absent(object, key)) return std::nullopt;
  const Json& value = json_field(object, key, where);
  const double number = value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
  if (!(number >= least && number <= most)) {
    throw wrong_field(where, key, fmt::format("a number from {} to {}", least, most), value);
  }
  return number;
}

bool json_boolean_or(const Json& object, std::string_view key, bool fallback, const std::string& where) {
  if (absent(object, key)) return fallback;
  const Json& field = json_field(object, key, where);
  if (!field.is_boolean()) throw wrong_field(where, key, "true or false", field);
  return field.get<bool>();
}

}  // namespace tritllm
