// Owns the manifest's text: writing it, and the checks that turn it back into records.
#include "io/manifest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "core/checked.h"
#include "core/checksum.h"
#include "core/error.h"
#include "core/json.h"
#include "core/utf8.h"

namespace tritllm {
namespace {

constexpr std::array<std::pair<Fate, std::string_view>, 3> kFates{
    {{Fate::kTernary, "ternary"}, {Fate::kKept, "kept"}, {Fate::kTied, "tied"}}};
constexpr std::array<std::pair<FileRole, std::string_view>, 3> kRoles{
    {{FileRole::kWeights, "weights"}, {FileRole::kIndex, "index"}, {FileRole::kSide, "side"}}};

template <typename Value, size_t kCount>
std::string_view name_in(const std::array<std::pair<Value, std::string_view>, kCount>& table, Value value) noexcept {
  return std::find_if(table.begin(), table.end(), [&](const auto& row) { return row.first == value; })->second;
}

template <typename Value, size_t kCount>
Value value_in(const std::array<std::pair<Value, std::string_view>, kCount>& table, const JsonView& name) {
  const std::string text = name.text();
  const auto row = std::find_if(table.begin(), table.end(), [&](const auto& candidate) { return candidate.second == text; });
  if (row == table.end()) throw Error(ErrorCode::kBadInput, name.where(), fmt::format("unknown value '{}'", printable(text)));
  return row->first;
}

std::vector<uint64_t> integers(const JsonView& array) {
  std::vector<uint64_t> values;
  for (const JsonView& item : array.items()) values.push_back(item.integer(0, UINT64_MAX));
  return values;
}

double finite_number(const JsonView& object, std::string_view key) {
  constexpr double kMost = std::numeric_limits<double>::max();
  return object.number(key, -kMost, kMost);
}

std::string checksum_text(const JsonView& object, std::string_view key) {
  const JsonView field = object.child(key);
  std::string digits = field.text();
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (digits.size() != 32 || !std::all_of(digits.begin(), digits.end(), is_digit)) {
    field.refuse("32 lower-case hexadecimal digits");
  }
  return digits;
}

// Names of the manifest become paths: relative, inside the folder.
std::string file_name(const JsonView& object, std::string_view key) {
  const JsonView field = object.child(key);
  std::string name = field.text();
  const bool plain = !name.empty() && name.size() <= 255 && name.front() != '/' && name.find('\0') == name.npos &&
                     name.find('\\') == name.npos && ("/" + name + "/").find("/../") == name.npos && is_valid_utf8(name);
  if (!plain) field.refuse("the name of a file in this folder");
  return name;
}

Json stats_to_json(const ErrorStats& error) {
  return {{"weight_energy", error.weight_energy},
          {"relative_mse", error.relative_mse},
          {"sqnr_db", error.sqnr_db ? Json(*error.sqnr_db) : Json(nullptr)},
          {"cosine", error.cosine},
          {"max_abs_error", error.max_abs_error},
          {"clipped", error.clipped},
          {"level_histogram", error.level_histogram}};
}

ErrorStats parse_stats(const JsonView& record, int depth) {
  ErrorStats error;
  error.weight_energy = finite_number(record, "weight_energy");
  error.relative_mse = finite_number(record, "relative_mse");
  if (!record.child("sqnr_db").json().is_null()) error.sqnr_db = finite_number(record, "sqnr_db");
  error.cosine = finite_number(record, "cosine");
  error.max_abs_error = finite_number(record, "max_abs_error");
  error.clipped = record.integer("clipped");
  error.level_histogram = integers(record.child("level_histogram"));
  if (error.level_histogram.size() != 2 * static_cast<size_t>(codec::largest_code(depth)) + 1) {
    record.child("level_histogram").refuse(fmt::format("{} counts", 2 * codec::largest_code(depth) + 1));
  }
  return error;
}

// The manifest's last line, which holds the checksum of all before it.
std::string checksum_line(std::string_view before) { return fmt::format("  \"checksum\": \"{}\"\n}}\n", checksum_of(before)); }

// Facts that may be missing, by their names in the manifest.
constexpr std::array<std::pair<const char*, std::optional<std::string> CardFacts::*>, 6> kCardTexts{
    {{"name", &CardFacts::name},
     {"base_model", &CardFacts::base_model},
     {"revision", &CardFacts::revision},
     {"license", &CardFacts::license},
     {"license_name", &CardFacts::license_name},
     {"license_link", &CardFacts::license_link}}};

CardFacts parse_card(const JsonView& json) {
  CardFacts facts{.source_name = json.text("source_name"), .options = json.text("options")};
  for (const auto& [key, fact] : kCardTexts) facts.*fact = json.optional_text(key);
  return facts;
}

Json part_to_json(const PartOfModel& part) {
  return {{"index", part.index}, {"count", part.count}, {"tensors", part.tensors}, {"positions", part.positions}};
}

PartOfModel parse_part(const JsonView& json, size_t tensors) {
  PartOfModel part;
  part.count = json.integer("count", 1, 100'000);
  part.index = json.integer("index", 1, part.count);
  part.tensors = json.integer("tensors");
  part.positions = integers(json.child("positions"));
  const auto not_ascending = [](uint64_t a, uint64_t b) { return a >= b; };
  if (part.positions.size() != tensors ||
      std::adjacent_find(part.positions.begin(), part.positions.end(), not_ascending) != part.positions.end() ||
      (!part.positions.empty() && part.positions.back() >= part.tensors)) {
    throw Error(ErrorCode::kBadInput, json.where(), "expected one ascending position for each tensor of the part");
  }
  return part;
}

FileRecord parse_file_record(const JsonView& json) {
  return {file_name(json, "name"), value_in(kRoles, json.child("role")), json.integer("bytes"), checksum_text(json, "checksum")};
}

void add_tensor(const Json& json, const std::string& where, std::unordered_set<std::string>& names, Manifest& manifest) {
  manifest.tensors.push_back(parse_tensor_record(json, where));
  if (const std::string& name = manifest.tensors.back().name; !names.insert(name).second) {
    throw Error(ErrorCode::kBadInput, where, fmt::format("the tensor '{}' is listed twice", printable(name)));
  }
}

void add_file(const Json& json, const std::string& where, std::unordered_set<std::string>& names, Manifest& manifest) {
  manifest.files.push_back(parse_file_record(JsonView(json, where + ": /files")));
  if (const std::string& name = manifest.files.back().name; !names.insert(name).second) {
    throw Error(ErrorCode::kBadInput, where, fmt::format("the file '{}' is listed twice", printable(name)));
  }
}

// What is stored of a tensor lies in a weight file.
void check_places(const Manifest& manifest, const std::string& where) {
  std::unordered_set<std::string_view> weights;
  for (const FileRecord& file : manifest.files) {
    if (file.role == FileRole::kWeights) weights.insert(file.name);
  }
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate == Fate::kTied || weights.contains(record.file)) continue;
    throw Error(ErrorCode::kBadInput, fmt::format("{}: tensor '{}'", where, printable(record.name)),
                fmt::format("lies in '{}', which is not among the weight files", printable(record.file)));
  }
}

// The name of a configuration: it becomes the title of a model card and part of names.
std::string recipe_name(const JsonView& json) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
  std::string name = json.text("recipe");
  if (name.empty() || name.size() > 64 || name.find_first_not_of(kAllowed) != name.npos)
    json.child("recipe").refuse("a name of up to 64 small letters, digits, '-', '_' and '.'");
  return name;
}

}  // namespace

void check_tied(const std::vector<TensorRecord>& tensors, const std::string& where) {
  std::unordered_map<std::string_view, const TensorRecord*> stored;
  for (const TensorRecord& record : tensors) {
    if (record.fate != Fate::kTied) stored.emplace(record.name, &record);
  }
  for (const TensorRecord& record : tensors) {
    if (record.fate != Fate::kTied) continue;
    const auto found = stored.find(record.tied_to);
    if (found != stored.end() && found->second->shape == record.shape) continue;
    throw Error(ErrorCode::kBadInput, fmt::format("{}: tensor '{}'", where, printable(record.name)),
                fmt::format("is tied to '{}', which is not a stored tensor of the same shape", printable(record.tied_to)));
  }
}

std::string_view fate_name(Fate fate) noexcept { return name_in(kFates, fate); }

ErrorStats error_stats(const codec::MatrixStats& stats) {
  const double sqnr_db = stats.sqnr_db();
  return {.weight_energy = stats.weight_energy,
          .relative_mse = stats.relative_mse(),
          .sqnr_db = std::isfinite(sqnr_db) ? std::optional(sqnr_db) : std::nullopt,
          .cosine = stats.cosine(),
          .max_abs_error = stats.largest_error,
          .clipped = stats.clipped,
          .level_histogram = stats.level_histogram};
}

Json to_json(const CardFacts& facts) {
  Json json{{"source_name", facts.source_name}, {"options", facts.options}};
  for (const auto& [key, fact] : kCardTexts) json[key] = facts.*fact ? Json(*(facts.*fact)) : Json(nullptr);
  return json;
}

uint64_t TensorRecord::elements() const noexcept { return checked_product(shape).value_or(0); }

codec::MatrixShape TensorRecord::matrix_shape() const noexcept {
  const uint64_t columns = shape.empty() ? 1 : shape.back();
  return {columns == 0 ? 0 : elements() / columns, columns, shape.size() == 3 ? shape.front() : 0};
}

Json to_json(const TensorRecord& record) {
  Json json{{"name", record.name},
            {"shape", record.shape},
            {"source_type", record.source_type},
            {"source_checksum", record.source_checksum},
            {"fate", fate_name(record.fate)}};
  if (record.fate == Fate::kTied) {
    json["tied_to"] = record.tied_to;
    return json;
  }
  if (record.fate == Fate::kTernary) json["depth"] = record.depth;
  if (record.fate == Fate::kKept) json["type"] = record.type;
  json["file"] = record.file;
  json["checksum"] = record.checksum;
  if (record.fate == Fate::kTernary) json.update(stats_to_json(record.error));
  return json;
}

TensorRecord parse_tensor_record(const Json& json, const std::string& where) {
  TensorRecord record;
  record.name = JsonView(json, where).text("name");
  const JsonView fields(json, fmt::format("{}: tensor '{}'", where, printable(record.name)));
  record.shape = integers(fields.child("shape"));
  if (!checked_product(record.shape)) fields.child("shape").refuse("at most 2^64 elements");
  record.source_type = fields.text("source_type");
  record.source_checksum = checksum_text(fields, "source_checksum");
  record.fate = value_in(kFates, fields.child("fate"));
  if (record.fate == Fate::kTied) {
    record.tied_to = fields.text("tied_to");
    return record;
  }
  record.file = file_name(fields, "file");
  record.checksum = checksum_text(fields, "checksum");
  if (record.fate == Fate::kKept) {
    record.type = fields.text("type");
    if (!element_type_from_safetensors(record.type)) fields.child("type").refuse("a type of safetensors");
    return record;
  }
  record.depth = static_cast<int>(fields.integer("depth", 1, codec::kMaxDepth));
  record.error = parse_stats(fields, record.depth);
  if (record.shape.size() != 2 && record.shape.size() != 3) {
    fields.child("shape").refuse("a matrix [rows, columns] or a stack [experts, rows, columns]");
  }
  // Far beyond any model; keeps every product of the codec's geometry inside 64 bits.
  if (record.elements() == 0 || record.elements() > (uint64_t{1} << 48)) {
    fields.child("shape").refuse("a matrix of 1 to 2^48 weights");
  }
  return record;
}

std::string manifest_text(const Manifest& manifest) {
  Json tensors = Json::array(), files = Json::array();
  for (const TensorRecord& record : manifest.tensors) tensors.push_back(to_json(record));
  for (const FileRecord& file : manifest.files) {
    files.push_back(
        {{"name", file.name}, {"role", name_in(kRoles, file.role)}, {"bytes", file.bytes}, {"checksum", file.checksum}});
  }
  Json json{{"format", "tritllm-packed"},
            {"format_version", kFormatVersion},
            {"tool_version", manifest.tool_version},
            {"recipe", manifest.recipe},
            {"fingerprint", manifest.fingerprint},
            {"source",
             {{"name", manifest.source_name},
              {"kind", manifest.source_kind},
              {"digest", manifest.source_digest},
              {"types", manifest.source_types}}},
            {"group_size", codec::kGroupSize},
            {"nominal_bits_per_weight", manifest.nominal_bits_per_weight},
            {"stored_bits_per_weight", manifest.stored_bits_per_weight}};
  json["card"] = to_json(manifest.card);
  if (manifest.part) json["part"] = part_to_json(*manifest.part);
  json["tensors"] = std::move(tensors);
  json["files"] = std::move(files);
  std::string text = json.dump(2);
  text.resize(text.size() - 2);  // the closing "\n}", which the checksum's line brings
  text += ",\n";
  return text + checksum_line(text);
}

Manifest parse_manifest(std::string_view text, const std::string& where) {
  const size_t line = text.rfind("  \"checksum\": \"");
  if (line == text.npos || text.substr(line) != checksum_line(text.substr(0, line))) {
    throw Error(ErrorCode::kBadInput, where, "does not match its own checksum", "the file is damaged or was edited; restore it");
  }
  Manifest manifest;
  std::unordered_set<std::string> names, file_names;
  // The first thing that is wrong with a record. A manifest of another version is to be refused by its version first.
  std::optional<Error> wrong;
  const auto take = [&](size_t list, const std::string&, const Json& json) {
    if (wrong) return;
    try {
      if (list == 0) add_tensor(json, where, names, manifest);
      else add_file(json, where, file_names, manifest);
    } catch (const Error& error) {
      wrong = error;
    }
  };
  static constexpr std::string_view kLists[] = {"/tensors", "/files"};
  const Json document = parse_json_in_parts(text, where, kLists, take);
  const JsonView json(document, where);
  if (json.text("format") != "tritllm-packed") json.child("format").refuse("\"tritllm-packed\"");
  if (const uint64_t version = json.integer("format_version"); version != kFormatVersion) {
    throw Error(ErrorCode::kUnsupported, where, fmt::format("expected format_version {}, found {}", kFormatVersion, version),
                "use a newer tritllm");
  }
  json.integer("group_size", codec::kGroupSize, codec::kGroupSize);
  json.child("tensors").items();
  json.child("files").items();
  if (wrong) throw *wrong;

  manifest.tool_version = json.text("tool_version");
  manifest.recipe = recipe_name(json);
  manifest.fingerprint = checksum_text(json, "fingerprint");
  const JsonView source = json.child("source");
  manifest.source_name = source.text("name");
  manifest.source_kind = source.text("kind");
  manifest.source_digest = checksum_text(source, "digest");
  for (const JsonView& type : source.child("types").items()) manifest.source_types.push_back(type.text());
  manifest.nominal_bits_per_weight = finite_number(json, "nominal_bits_per_weight");
  manifest.stored_bits_per_weight = finite_number(json, "stored_bits_per_weight");
  manifest.card.source_name = manifest.source_name;
  if (document.contains("card")) manifest.card = parse_card(json.child("card"));
  check_places(manifest, where);
  if (document.contains("part")) manifest.part = parse_part(json.child("part"), manifest.tensors.size());
  else check_tied(manifest.tensors, where);  // a part may leave the other tensor to another part
  return manifest;
}

BitsPerWeight bits_per_weight(const std::vector<TensorRecord>& tensors) {
  BitsPerWeight bits;
  double nominal_bits = 0, stored_bits = 0;
  for (const TensorRecord& record : tensors) {
    if (record.fate != Fate::kTernary) continue;
    const auto weights = static_cast<double>(record.elements());
    nominal_bits += weights * codec::nominal_bits_per_weight(record.depth);
    stored_bits += 8.0 * static_cast<double>(record.matrix_shape().stored_bytes(record.depth));
    bits.ternary_weights += record.elements();
  }
  if (bits.ternary_weights == 0) return bits;
  // Rounded, so that the last bit of a C library's logarithm cannot change a file.
  const auto rounded = [&](double value) { return std::round(value / static_cast<double>(bits.ternary_weights) * 1e4) / 1e4; };
  bits.nominal = rounded(nominal_bits);
  bits.stored = rounded(stored_bits);
  return bits;
}

std::string source_digest(const std::vector<TensorRecord>& tensors) {
  Checksum digest;
  for (const TensorRecord& record : tensors) {
    digest.add(
        fmt::format("{}\n{}\n{}\n{}\n", record.name, record.source_type, fmt::join(record.shape, ","), record.source_checksum));
  }
  return digest.hex();
}

void set_tensors(Manifest& manifest, std::vector<TensorRecord> tensors) {
  manifest.source_types.clear();
  for (const TensorRecord& record : tensors) {
    if (std::ranges::find(manifest.source_types, record.source_type) == manifest.source_types.end()) {
      manifest.source_types.push_back(record.source_type);
    }
  }
  manifest.source_digest = source_digest(tensors);
  const BitsPerWeight bits = bits_per_weight(tensors);
  manifest.nominal_bits_per_weight = bits.nominal;
  manifest.stored_bits_per_weight = bits.stored;
  manifest.tensors = std::move(tensors);
}

}  // namespace tritllm
