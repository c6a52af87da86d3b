#include "io/manifest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_set>

#include "core/checked.h"
#include "core/checksum.h"
#include "core/error.h"
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
Value value_in(const std::array<std::pair<Value, std::string_view>, kCount>& table, const std::string& name,
               const std::string& where) {
  const auto row = std::find_if(table.begin(), table.end(), [&](const auto& candidate) { return candidate.second == name; });
  if (row == table.end()) throw Error(ErrorCode::kBadInput, where, fmt::format("unknown value '{}'", name));
  return row->first;
}

const Json& json_array(const Json& object, std::string_view key, const std::string& where) {
  const Json& field = json_field(object, key, where);
  if (!field.is_array()) throw Error(ErrorCode::kBadInput, where, fmt::format("expected an array at \"{}\"", key));
  return field;
}

std::vector<uint64_t> json_integers(const Json& object, std::string_view key, const std::string& where) {
  std::vector<uint64_t> values;
  for (const Json& item : json_array(object, key, where)) {
    if (!item.is_number_unsigned()) throw Error(ErrorCode::kBadInput, where, fmt::format("expected whole numbers at \"{}\"", key));
    values.push_back(item.get<uint64_t>());
  }
  return values;
}

double json_number(const Json& object, std::string_view key, const std::string& where) {
  const Json& field = json_field(object, key, where);
  if (!field.is_number()) throw Error(ErrorCode::kBadInput, where, fmt::format("expected a number at \"{}\"", key));
  return field.get<double>();
}

std::string json_checksum(const Json& object, std::string_view key, const std::string& where) {
  std::string digits = json_string(object, key, where);
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (digits.size() != 32 || !std::all_of(digits.begin(), digits.end(), is_digit)) {
    throw Error(ErrorCode::kBadInput, where, fmt::format("expected 32 lower-case hexadecimal digits at \"{}\"", key));
  }
  return digits;
}

// Names of the manifest become paths: relative, inside the folder.
void check_file_name(const std::string& name, const std::string& where) {
  const bool plain = !name.empty() && name.size() <= 255 && name.front() != '/' && name.find('\0') == name.npos &&
                     name.find('\\') == name.npos && ("/" + name + "/").find("/../") == name.npos && is_valid_utf8(name);
  if (!plain) throw Error(ErrorCode::kBadInput, where, fmt::format("expected the name of a file in this folder, found '{}'", name));
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

ErrorStats parse_stats(const Json& json, const std::string& where) {
  ErrorStats error;
  error.weight_energy = json_number(json, "weight_energy", where);
  error.relative_mse = json_number(json, "relative_mse", where);
  if (!json_field(json, "sqnr_db", where).is_null()) error.sqnr_db = json_number(json, "sqnr_db", where);
  error.cosine = json_number(json, "cosine", where);
  error.max_abs_error = json_number(json, "max_abs_error", where);
  error.clipped = json_integer(json, "clipped", where);
  error.level_histogram = json_integers(json, "level_histogram", where);
  return error;
}

// The manifest's last line, which holds the checksum of all before it.
std::string checksum_line(std::string_view before) { return fmt::format("  \"checksum\": \"{}\"\n}}\n", checksum_of(before)); }

Json part_to_json(const PartOfModel& part) {
  return {{"index", part.index}, {"count", part.count}, {"tensors", part.tensors}, {"positions", part.positions}};
}

PartOfModel parse_part(const Json& json, size_t tensors, const std::string& where) {
  PartOfModel part;
  part.count = json_integer(json, "count", where, 1, 100'000);
  part.index = json_integer(json, "index", where, 1, part.count);
  part.tensors = json_integer(json, "tensors", where);
  part.positions = json_integers(json, "positions", where);
  const auto not_ascending = [](uint64_t a, uint64_t b) { return a >= b; };
  if (part.positions.size() != tensors ||
      std::adjacent_find(part.positions.begin(), part.positions.end(), not_ascending) != part.positions.end() ||
      (!part.positions.empty() && part.positions.back() >= part.tensors)) {
    throw Error(ErrorCode::kBadInput, where, "expected one ascending position for each tensor of the part");
  }
  return part;
}

}  // namespace

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

uint64_t TensorRecord::elements() const noexcept { return checked_product(shape).value_or(0); }

codec::MatrixShape TensorRecord::matrix_shape() const noexcept {
  const uint64_t columns = shape.empty() ? 1 : shape.back();
  return {columns == 0 ? 0 : elements() / columns, columns};
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
  record.name = json_string(json, "name", where);
  const std::string place = fmt::format("{}: tensor '{}'", where, printable(record.name));
  record.shape = json_integers(json, "shape", place);
  if (!checked_product(record.shape)) throw Error(ErrorCode::kBadInput, place, "its shape holds more than 2^64 elements");
  record.source_type = json_string(json, "source_type", place);
  record.source_checksum = json_checksum(json, "source_checksum", place);
  record.fate = value_in(kFates, json_string(json, "fate", place), place);
  if (record.fate == Fate::kTied) {
    record.tied_to = json_string(json, "tied_to", place);
    return record;
  }
  record.file = json_string(json, "file", place);
  check_file_name(record.file, place);
  record.checksum = json_checksum(json, "checksum", place);
  if (record.fate == Fate::kKept) {
    record.type = json_string(json, "type", place);
    if (!element_type_from_safetensors(record.type))
      throw Error(ErrorCode::kBadInput, place, fmt::format("unknown type '{}'", record.type));
    return record;
  }
  record.depth = static_cast<int>(json_integer(json, "depth", place, 1, codec::kMaxDepth));
  record.error = parse_stats(json, place);
  // Far beyond any model; keeps every product of the codec's geometry inside 64 bits.
  if (record.elements() == 0 || record.elements() > (uint64_t{1} << 48)) {
    throw Error(ErrorCode::kBadInput, place, "expected a matrix of 1 to 2^48 weights");
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
  const Json json = parse_json(text, where);
  if (json_string(json, "format", where) != "tritllm-packed")
    throw Error(ErrorCode::kBadInput, where, "expected the format \"tritllm-packed\"");
  if (const uint64_t version = json_integer(json, "format_version", where); version != kFormatVersion) {
    throw Error(ErrorCode::kUnsupported, where, fmt::format("expected format_version {}, found {}", kFormatVersion, version),
                "use a newer tritllm");
  }
  json_integer(json, "group_size", where, codec::kGroupSize, codec::kGroupSize);

  Manifest manifest;
  manifest.tool_version = json_string(json, "tool_version", where);
  manifest.recipe = json_string(json, "recipe", where);
  manifest.fingerprint = json_checksum(json, "fingerprint", where);
  const Json& source = json_field(json, "source", where);
  manifest.source_name = json_string(source, "name", where);
  manifest.source_kind = json_string(source, "kind", where);
  manifest.source_digest = json_checksum(source, "digest", where);
  for (const Json& type : json_array(source, "types", where)) {
    if (!type.is_string()) throw Error(ErrorCode::kBadInput, where, "expected strings at \"types\"");
    manifest.source_types.push_back(type.get<std::string>());
  }
  manifest.nominal_bits_per_weight = json_number(json, "nominal_bits_per_weight", where);
  manifest.stored_bits_per_weight = json_number(json, "stored_bits_per_weight", where);
  std::unordered_set<std::string> names;
  for (const Json& tensor : json_array(json, "tensors", where)) {
    manifest.tensors.push_back(parse_tensor_record(tensor, where));
    if (!names.insert(manifest.tensors.back().name).second) {
      throw Error(ErrorCode::kBadInput, where,
                  fmt::format("the tensor '{}' is listed twice", printable(manifest.tensors.back().name)));
    }
  }
  std::unordered_set<std::string> file_names;
  for (const Json& file : json_array(json, "files", where)) {
    FileRecord record{json_string(file, "name", where), value_in(kRoles, json_string(file, "role", where), where),
                      json_integer(file, "bytes", where), json_checksum(file, "checksum", where)};
    check_file_name(record.name, where);
    if (!file_names.insert(record.name).second) {
      throw Error(ErrorCode::kBadInput, where, fmt::format("the file '{}' is listed twice", printable(record.name)));
    }
    manifest.files.push_back(std::move(record));
  }
  if (json.contains("part")) manifest.part = parse_part(json_field(json, "part", where), manifest.tensors.size(), where);
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
