#include "server/fields.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/json.h"
#include "sampling/sampler_options.h"
#include "server/api_error.h"

namespace tritllm::server {
namespace {

std::string_view type_name(FieldType type) {
  switch (type) {
    case FieldType::kBoolean: return "true or false";
    case FieldType::kInteger: return "a whole number";
    case FieldType::kNumber: return "a number";
    case FieldType::kText: return "a string";
    case FieldType::kTexts: return "a string or an array of strings";
    case FieldType::kObject: return "an object";
    case FieldType::kArray: return "an array";
    case FieldType::kAny: return "a value";
  }
  return "";
}

bool is_bounded(const RequestField& field) { return field.most != 0 || field.least != 0; }

std::string expectation(const RequestField& field) {
  const bool number = field.type == FieldType::kInteger || field.type == FieldType::kNumber;
  if (!is_bounded(field)) return std::string(type_name(field.type));
  if (number) return fmt::format("{} from {} to {}", type_name(field.type), field.least, field.most);
  return fmt::format("{} with {} to {} {}", type_name(field.type), field.least, field.most,
                     field.type == FieldType::kText ? "bytes" : "items");
}

bool is_of_type(const Json& value, FieldType type) {
  switch (type) {
    case FieldType::kBoolean: return value.is_boolean();
    case FieldType::kInteger: return value.is_number_integer();
    case FieldType::kNumber: return value.is_number();
    case FieldType::kText: return value.is_string();
    case FieldType::kTexts:
      return value.is_string() ||
             (value.is_array() && std::ranges::all_of(value, [](const Json& item) { return item.is_string(); }));
    case FieldType::kObject: return value.is_object();
    case FieldType::kArray: return value.is_array();
    case FieldType::kAny: return true;
  }
  return false;
}

bool is_in_range(const Json& value, const RequestField& field) {
  if (!is_bounded(field)) return true;
  double size = 0;
  if (value.is_number()) size = value.get<double>();
  else if (value.is_string())
    size = field.type == FieldType::kText ? static_cast<double>(value.get_ref<const std::string&>().size()) : 1;
  else size = static_cast<double>(value.size());
  return size >= field.least && size <= field.most;
}

std::string shown(const Json& value) { return printable(json_line(value), 60); }

void check_value(const Json& value, const RequestField& field) {
  if (field.use == FieldUse::kOneValue) {
    if (value == parse_json(field.schema, std::string(field.name))) return;
    throw ApiError(400, fmt::format("{}: this server accepts only {}, found {}", field.name, field.schema, shown(value)),
                   field.name, "unsupported_value");
  }
  if (is_of_type(value, field.type) && is_in_range(value, field)) return;
  throw ApiError(400, fmt::format("{}: expected {}, found {}", field.name, expectation(field), shown(value)), field.name,
                 "invalid_value");
}

// A field that is null counts as absent.
void allow_null(Json& schema) {
  if (schema.contains("enum")) schema["enum"].push_back(nullptr);
  else if (schema.contains("anyOf")) schema["anyOf"].push_back({{"type", "null"}});
  else if (schema.contains("type")) schema["type"] = Json::array({schema["type"], "null"});
}

Json schema_of_field(const RequestField& field) {
  Json schema = Json::object();
  if (field.use == FieldUse::kOneValue) {
    schema["enum"] = Json::array({parse_json(field.schema, std::string(field.name))});
  } else if (!field.schema.empty()) {
    schema = parse_json(field.schema, std::string(field.name));
  } else {
    switch (field.type) {
      case FieldType::kBoolean: schema["type"] = "boolean"; break;
      case FieldType::kInteger: schema["type"] = "integer"; break;
      case FieldType::kNumber: schema["type"] = "number"; break;
      case FieldType::kText: schema["type"] = "string"; break;
      case FieldType::kTexts: schema["anyOf"] = {{{"type", "string"}}, {{"type", "array"}, {"items", {{"type", "string"}}}}}; break;
      case FieldType::kObject: schema["type"] = "object"; break;
      case FieldType::kArray: schema["type"] = "array"; break;
      case FieldType::kAny: break;
    }
    if (is_bounded(field) && schema.contains("type")) {
      const std::string type = schema["type"];
      const char* const least = type == "string" ? "minLength" : type == "array" ? "minItems" : "minimum";
      const char* const most = type == "string" ? "maxLength" : type == "array" ? "maxItems" : "maximum";
      const bool whole = field.type != FieldType::kNumber;
      schema[least] = whole ? Json(static_cast<int64_t>(field.least)) : Json(field.least);
      schema[most] = whole ? Json(static_cast<int64_t>(field.most)) : Json(field.most);
    }
  }
  if (!field.required) allow_null(schema);
  std::string help(field.help);
  if (field.use == FieldUse::kWithoutEffect)
    help += help.empty() ? "Accepted, but has no effect." : " Accepted, but has no effect.";
  if (!help.empty()) schema["description"] = help;
  return schema;
}

}  // namespace

FieldTable sampling_fields() {
  FieldTable table;
  for (const SamplerField& field : sampler_fields()) {
    const bool count = std::holds_alternative<uint32_t SamplerOptions::*>(field.member);
    table.push_back({field.name, count ? FieldType::kInteger : FieldType::kNumber, field.help, field.least, field.most});
  }
  table.push_back({"repetition_penalty", FieldType::kNumber, "Another name for repeat_penalty.", 0.01, 100});
  table.push_back({"logit_bias", FieldType::kObject, "Token ids, each with a number that is added to its logit.", 0, 0, false,
                   FieldUse::kUsed, R"({"type": "object", "additionalProperties": {"type": "number"}})"});
  table.push_back({"seed", FieldType::kInteger, "The same seed and request give the same answer.", -9223372036854775808.0,
                   9223372036854775807.0});
  return table;
}

FieldTable joined(std::initializer_list<FieldTable> tables) {
  FieldTable all;
  for (const FieldTable& table : tables) all.insert(all.end(), table.begin(), table.end());
  return all;
}

void check_fields(const Json& request, const FieldTable& table) {
  if (!request.is_object()) throw ApiError(400, fmt::format("expected a JSON object, found {}", shown(request)));
  for (const auto& [name, value] : request.items()) {
    const auto field = std::ranges::find(table, name, &RequestField::name);
    if (field == table.end()) {
      throw ApiError(400, fmt::format("{}: this server does not know the field; leave it out", printable(name, 80)), name,
                     "unknown_parameter");
    }
    if (!value.is_null()) check_value(value, *field);
  }
  for (const RequestField& field : table) {
    const auto found = request.find(field.name);
    if (!field.required || (found != request.end() && !found->is_null())) continue;
    throw ApiError(400, fmt::format("{}: the field is missing", field.name), field.name, "missing_required_parameter");
  }
}

Json schema_of(const FieldTable& table) {
  Json properties = Json::object(), required = Json::array();
  for (const RequestField& field : table) {
    properties[std::string(field.name)] = schema_of_field(field);
    if (field.required) required.push_back(field.name);
  }
  Json schema = {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

}  // namespace tritllm::server
