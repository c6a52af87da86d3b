// Owns the parser behind core/json.h, the look-ups of JsonView, and the writing of documents.
#include "core/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_set>
#include <vector>

#include "core/error.h"

namespace tritllm {
namespace {

// Python's words for numbers that JSON cannot write. The parser does not know them, so they are replaced by literals that nobody
// writes, and recognised by their digits when the parser hands them over.
struct SpecialNumber {
  std::string_view word;
  double value;
  std::string_view literal;
};
constexpr std::array<SpecialNumber, 3> kSpecialNumbers{{
    {"-Infinity", -std::numeric_limits<double>::infinity(), "-0.27182818284590452353602874713526624977572470936999"},
    {"Infinity", std::numeric_limits<double>::infinity(), "0.27182818284590452353602874713526624977572470936999"},
    {"NaN", std::numeric_limits<double>::quiet_NaN(), "0.31415926535897932384626433832795028841971693993751"},
}};

std::optional<double> special_number(std::string_view text) {
  const auto* const found = std::ranges::find(kSpecialNumbers, text, &SpecialNumber::literal);
  return found == kSpecialNumbers.end() ? std::nullopt : std::optional(found->value);
}

// The text with Python's words outside of strings replaced; empty where it has none.
std::string without_special_words(std::string_view text) {
  std::string replaced;
  size_t copied = 0;
  bool in_string = false;
  for (size_t at = 0; at < text.size(); ++at) {
    if (in_string && text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      in_string = !in_string;
    } else if (!in_string && (text[at] == '-' || text[at] == 'I' || text[at] == 'N')) {
      const auto is_here = [&](const SpecialNumber& special) { return text.substr(at).starts_with(special.word); };
      const auto* const special = std::ranges::find_if(kSpecialNumbers, is_here);
      if (special == kSpecialNumbers.end()) continue;
      // Spaces keep the number apart from the text next to the word.
      replaced.append(text, copied, at - copied).append(" ").append(special->literal).append(" ");
      at += special->word.size() - 1;
      copied = at + 1;
    }
  }
  if (copied != 0) replaced.append(text, copied);
  return replaced;
}

[[noreturn]] void refuse_syntax(const std::string& where, size_t position, const std::exception& error) {
  std::string reason = error.what();
  if (const size_t start = reason.find("; "); start != std::string::npos) reason = reason.substr(start + 2);
  else if (const size_t end = reason.find("] "); end != std::string::npos) reason = reason.substr(end + 2);
  throw Error(ErrorCode::kBadInput, where, fmt::format("not valid JSON at byte {}: {}", position, reason));
}

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
  bool number_float(number_float_t value, const string_t& text) override { return add(special_number(text).value_or(value)); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (checks_keys() && !keys_.back().insert(name).second) {
      throw Error(ErrorCode::kBadInput, where_, fmt::format("the key \"{}\" stands twice in one JSON object", printable(name)));
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    refuse_syntax(where_, position, error);
  }

 protected:
  virtual Json* place(Json&& value) {
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

  virtual bool open(Json&& container) {
    if (open_.size() >= static_cast<size_t>(depth_limit_)) {
      throw Error(ErrorCode::kBadInput, where_, fmt::format("JSON nested deeper than the limit of {} levels", depth_limit_));
    }
    open_.push_back(place(std::move(container)));
    keys_.emplace_back();
    return true;
  }

  virtual bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  virtual bool checks_keys() const { return true; }

  const std::string& where_;
  int depth_limit_;
  Json root_;
  std::vector<Json*> open_;                            // containers not yet closed, outermost first
  std::vector<std::unordered_set<std::string>> keys_;  // keys seen in each of them
  std::string key_;                                    // of the member that comes next

 private:
  template <typename Value>
  bool add(Value&& value) {
    place(Json(std::forward<Value>(value)));
    return true;
  }
};

// Hands the members of some lists out as they are complete, and keeps the rest.
class PartsBuilder : public StrictBuilder {
 public:
  PartsBuilder(const std::string& where, int depth_limit, std::span<const std::string_view> lists, const TakeJsonMember& take)
      : StrictBuilder(where, depth_limit), take_(take) {
    for (const std::string_view list : lists) paths_.push_back(std::string(list));
  }

 private:
  static constexpr size_t kMostValuesOfMember = 1000, kMostValuesOfRest = 1'000'000;

  bool in_list() const { return list_ && open_.size() == list_depth_; }
  bool checks_keys() const override { return !in_list(); }

  Json* place(Json&& value) override {
    count();
    if (!in_list()) return StrictBuilder::place(std::move(value));
    member_key_ = open_.back()->is_object() ? std::move(key_) : std::string();
    if (!value.is_structured()) {
      take_(*list_, member_key_, value);
      values_of_member_ = 0;
      return nullptr;
    }
    member_ = std::move(value);
    return &member_;
  }

  bool open(Json&& container) override {
    const bool outside = !list_;
    if (outside) path_.push_back(open_.empty() ? "" : fmt::format("{}/{}", path_.back(), open_.back()->is_object() ? key_ : "-"));
    StrictBuilder::open(std::move(container));
    if (!outside) return true;
    if (const auto found = std::ranges::find(paths_, path_.back()); found != paths_.end()) {
      list_ = static_cast<size_t>(found - paths_.begin());
      list_depth_ = open_.size();
    }
    return true;
  }

  bool close() override {
    const bool ends_list = in_list();
    StrictBuilder::close();
    if (ends_list) list_.reset();
    if (!list_) path_.pop_back();
    if (!in_list()) return true;
    take_(*list_, member_key_, member_);
    values_of_member_ = 0;
    return true;
  }

  void count() {
    size_t& values = list_ ? values_of_member_ : values_of_rest_;
    const size_t most = list_ ? kMostValuesOfMember : kMostValuesOfRest;
    if (++values > most) {
      throw Error(ErrorCode::kBadInput, where_,
                  list_ ? fmt::format("a member of {} holds more than {} values",
                                      paths_[*list_].empty() ? "the object" : paths_[*list_], most)
                        : fmt::format("more than {} values", most));
    }
  }

  const TakeJsonMember& take_;
  std::vector<std::string> paths_;  // JSON pointers of the lists
  std::vector<std::string> path_;   // of the open containers, as long as none of them is a list
  std::optional<size_t> list_;      // the list that is open
  size_t list_depth_ = 0, values_of_member_ = 0, values_of_rest_ = 0;
  std::string member_key_;
  Json member_;
};

void read_events(std::string_view text, const std::string& where, StrictBuilder& builder) {
  // The parser takes a NUL byte for the end of its input and would ignore the rest.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw Error(ErrorCode::kBadInput, where, fmt::format("not valid JSON at byte {}: a NUL byte", nul + 1));
  }
  // It also skips a byte order mark, which JSON does not have.
  if (text.starts_with("\xEF\xBB\xBF")) {
    throw Error(ErrorCode::kBadInput, where, "not valid JSON at byte 1: begins with a byte order mark (EF BB BF)",
                "save the file as UTF-8 without one");
  }
  Json::sax_parse(text.begin(), text.end(), &builder);
}

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr size_t kLongest = 60;
  return text.size() > kLongest ? text.substr(0, kLongest) + "…" : text;
}

void write(const Json& value, size_t depth, std::string& out);

void start_line(size_t depth, std::string& out) { out.append("\n").append(2 * depth, ' '); }

void write_members(const Json& value, size_t depth, std::string& out) {
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    if (!std::exchange(first, false)) out += ',';
    start_line(depth + 1, out);
    if (value.is_object()) out.append(Json(key).dump(-1, ' ', false, Json::error_handler_t::strict)).append(": ");
    write(member, depth + 1, out);
  }
  start_line(depth, out);
}

void write(const Json& value, size_t depth, std::string& out) {
  if (value.is_structured() && !value.empty()) {
    out += value.is_object() ? '{' : '[';
    write_members(value, depth, out);
    out += value.is_object() ? '}' : ']';
  } else if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const auto number = value.get<double>();
    out += std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
  } else {
    out += value.dump(-1, ' ', false, Json::error_handler_t::strict);
  }
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where, int depth_limit) {
  StrictBuilder builder(where, depth_limit);
  read_events(text, where, builder);
  return builder.take();
}

Json parse_json_in_parts(std::string_view text, const std::string& where, std::span<const std::string_view> lists,
                         const TakeJsonMember& take, int depth_limit) {
  PartsBuilder builder(where, depth_limit, lists, take);
  read_events(text, where, builder);
  return builder.take();
}

Json parse_python_json(std::string_view text, const std::string& where, int depth_limit) {
  const std::string replaced = without_special_words(text);
  return parse_json_in_parts(replaced.empty() ? text : replaced, where, {}, {}, depth_limit);
}

std::string json_text(const Json& document) {
  std::string text;
  write(document, 0, text);
  return text + "\n";
}

JsonDocument::JsonDocument() : value_(std::make_unique<Json>()) {}
JsonDocument::JsonDocument(Json value) : value_(std::make_unique<Json>(std::move(value))) {}
JsonDocument::~JsonDocument() = default;
JsonDocument::JsonDocument(const JsonDocument& other) : value_(std::make_unique<Json>(*other.value_)) {}
JsonDocument::JsonDocument(JsonDocument&& other) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument other) noexcept {
  value_.swap(other.value_);
  return *this;
}
bool operator==(const JsonDocument& a, const JsonDocument& b) { return *a == *b; }

JsonView JsonView::below(const Json& json, std::string_view step) const {
  return {json, fmt::format("{}{}{}", where_, is_nested_ ? "/" : ": /", step), true};
}

void JsonView::refuse(std::string_view expected) const {
  throw Error(ErrorCode::kBadInput, where_, fmt::format("expected {}, found {}", expected, shown(*json_)));
}

std::string JsonView::text() const {
  if (!json_->is_string()) refuse("a string");
  return json_->get<std::string>();
}

uint64_t JsonView::integer(uint64_t least, uint64_t most) const {
  const bool whole = json_->is_number_unsigned() || (json_->is_number_integer() && json_->get<int64_t>() >= 0);
  if (!whole || json_->get<uint64_t>() < least || json_->get<uint64_t>() > most) {
    refuse(fmt::format("a whole number from {} to {}", least, most));
  }
  return json_->get<uint64_t>();
}

double JsonView::number(double least, double most) const {
  const double number = json_->is_number() ? json_->get<double>() : std::numeric_limits<double>::quiet_NaN();
  if (!(number >= least && number <= most)) refuse(fmt::format("a number from {} to {}", least, most));
  return number;
}

bool JsonView::boolean() const {
  if (!json_->is_boolean()) refuse("true or false");
  return json_->get<bool>();
}

std::vector<JsonView> JsonView::items() const {
  if (!json_->is_array()) refuse("an array");
  std::vector<JsonView> views;
  views.reserve(json_->size());
  for (const Json& item : *json_) views.push_back(below(item, fmt::to_string(views.size())));
  return views;
}

std::vector<std::pair<std::string, JsonView>> JsonView::members() const {
  if (!json_->is_object()) refuse("a JSON object");
  std::vector<std::pair<std::string, JsonView>> views;
  views.reserve(json_->size());
  for (const auto& [key, value] : json_->items()) views.emplace_back(key, below(value, key));
  return views;
}

bool JsonView::has(std::string_view key) const {
  const auto found = json_->find(key);
  return found != json_->end() && !found->is_null();
}

JsonView JsonView::child(std::string_view key) const {
  if (!json_->is_object()) refuse(fmt::format("a JSON object that holds \"{}\"", key));
  const auto found = json_->find(key);
  if (found == json_->end()) throw Error(ErrorCode::kBadInput, where_, fmt::format("the field \"{}\" is missing", key));
  return below(*found, key);
}

std::optional<JsonView> JsonView::optional_child(std::string_view key) const {
  return has(key) ? std::optional(child(key)) : std::nullopt;
}

uint64_t JsonView::integer(std::string_view key, uint64_t least, uint64_t most) const { return child(key).integer(least, most); }

std::optional<std::string> JsonView::optional_text(std::string_view key) const {
  return has(key) ? std::optional(child(key).text()) : std::nullopt;
}

std::optional<uint64_t> JsonView::optional_integer(std::string_view key, uint64_t least, uint64_t most) const {
  return has(key) ? std::optional(child(key).integer(least, most)) : std::nullopt;
}

std::optional<double> JsonView::optional_number(std::string_view key, double least, double most) const {
  return has(key) ? std::optional(child(key).number(least, most)) : std::nullopt;
}

std::optional<bool> JsonView::optional_boolean(std::string_view key) const {
  return has(key) ? std::optional(child(key).boolean()) : std::nullopt;
}

}  // namespace tritllm
