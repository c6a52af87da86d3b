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
    case FieldType::kTextOrObject: return "a string or an object";
    case FieldType::kTextOrArray: return "a string or an array";
    case FieldType::kAny: return "a value";
  }
  return "";
}

bool is_bounded(const RequestField& field) { return field.most != 0 || field.least != 0; }

std::string expectation(const RequestField& field) {
  if (!field.words.empty()) {
    const std::string words = fmt::format("{}", fmt::join(field.words, ", "));
    return field.type == FieldType::kTextOrObject ? words + " or an object" : words;
  }
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
    case FieldType::kTextOrObject: return value.is_string() || value.is_object();
    case FieldType::kTextOrArray: return value.is_string() || value.is_array();
    case FieldType::kAny: return true;
  }
  return false;
}

bool is_in_range(const Json& value, const RequestField& field) {
  if (value.is_string() && !field.words.empty())
    return std::ranges::find(field.words, value.get_ref<const std::string&>()) != field.words.end();
  if (!is_bounded(field)) return true;
  double size = 0;
  if (value.is_number()) size = value.get<double>();
  else if (value.is_string())
    size = field.type == FieldType::kText ? static_cast<double>(value.get_ref<const std::string&>().size()) : 1;
  else size = static_cast<double>(value.size());
  return size >= field.least && size <= field.most;
}

std::string shown(const Json& value) { return printable(json_line(value), 60); }

// "messages[0].content".
std::string field_below(const std::string& place, std::string_view name) {
  const std::string shown_name = printable(name, 80);
  return place.empty() ? shown_name : place + "." + shown_name;
}

void check_object(const Json& object, const FieldTable& table, const std::string& place);

// The shape of an object; null where its first field has none of the words.
const FieldTable* shape_of(const Json& object, const std::vector<FieldTable>& shapes) {
  for (const FieldTable& shape : shapes) {
    const RequestField& first = shape.front();
    const auto given = object.find(first.name);
    if (given == object.end() || given->is_null() ? !first.required : given->is_string() && is_in_range(*given, first))
      return &shape;
  }
  return nullptr;
}

[[noreturn]] void refuse_shape(const Json& object, const std::vector<FieldTable>& shapes, const std::string& place) {
  const std::string field = field_below(place, shapes.front().front().name);
  const auto given = object.find(shapes.front().front().name);
  if (given == object.end())
    throw ApiError(400, fmt::format("{}: the field is missing", field), field, "missing_required_parameter");
  std::vector<std::string_view> words;
  for (const FieldTable& shape : shapes) words.insert(words.end(), shape.front().words.begin(), shape.front().words.end());
  throw ApiError(400, fmt::format("{}: expected {}, found {}", field, fmt::join(words, ", "), shown(*given)), field,
                 "invalid_value");
}

void check_members(const Json& object, const std::vector<FieldTable>& shapes, const std::string& place) {
  if (!object.is_object()) {
    throw ApiError(400, fmt::format("{}: expected an object, found {}", place, shown(object)), place, "invalid_value");
  }
  if (shapes.size() == 1) return check_object(object, shapes.front(), place);
  const FieldTable* const shape = shape_of(object, shapes);
  if (shape == nullptr) refuse_shape(object, shapes, place);
  check_object(object, *shape, place);
}

void check_value(const Json& value, const RequestField& field, const std::string& place) {
  if (field.use == FieldUse::kOneValue) {
    if (value == parse_json(field.schema, std::string(field.name))) return;
    throw ApiError(400, fmt::format("{}: this server accepts only {}, found {}", place, field.schema, shown(value)), place,
                   "unsupported_value");
  }
  if (!is_of_type(value, field.type) || !is_in_range(value, field)) {
    throw ApiError(400, fmt::format("{}: expected {}, found {}", place, expectation(field), shown(value)), place, "invalid_value");
  }
  if (field.members.empty()) return;
  if (value.is_object()) check_members(value, field.members, place);
  if (!value.is_array()) return;
  for (size_t i = 0; i < value.size(); ++i) check_members(value[i], field.members, fmt::format("{}[{}]", place, i));
}

void check_object(const Json& object, const FieldTable& table, const std::string& place) {
  for (const auto& [name, value] : object.items()) {
    if (value.is_null()) continue;
    const auto field = std::ranges::find(table, name, &RequestField::name);
    if (field == table.end()) {
      const std::string unknown = field_below(place, name);
      throw ApiError(400, fmt::format("{}: this server does not know the field; leave it out", unknown), unknown,
                     "unknown_parameter");
    }
    check_value(value, *field, field_below(place, name));
  }
  for (const RequestField& field : table) {
    if (!field.required) continue;
    const auto found = object.find(field.name);
    if (found != object.end() && !found->is_null()) continue;
    const std::string missing = field_below(place, field.name);
    throw ApiError(400, fmt::format("{}: the field is missing", missing), missing, "missing_required_parameter");
  }
}

// The description

// A field that is null counts as absent.
void allow_null(Json& schema) {
  if (schema.contains("enum")) schema["enum"].push_back(nullptr);
  else if (schema.contains("anyOf")) schema["anyOf"].push_back({{"type", "null"}});
  else if (schema.contains("type")) schema["type"] = Json::array({schema["type"], "null"});
}

Json schema_of_members(const std::vector<FieldTable>& shapes) {
  if (shapes.empty()) return {{"type", "object"}};
  if (shapes.size() == 1) return schema_of(shapes.front());
  Json any = Json::array();
  for (const FieldTable& shape : shapes) any.push_back(schema_of(shape));
  return {{"anyOf", std::move(any)}};
}

Json bounded(Json schema, const RequestField& field, const char* least, const char* most) {
  if (!is_bounded(field)) return schema;
  const bool whole = field.type != FieldType::kNumber;
  schema[least] = whole ? Json(static_cast<int64_t>(field.least)) : Json(field.least);
  schema[most] = whole ? Json(static_cast<int64_t>(field.most)) : Json(field.most);
  return schema;
}

Json schema_of_array(const RequestField& field) {
  Json schema = {{"type", "array"}};
  if (!field.members.empty()) schema["items"] = schema_of_members(field.members);
  return bounded(std::move(schema), field, "minItems", "maxItems");
}

Json schema_of_words(const RequestField& field) {
  if (!field.words.empty()) return {{"enum", field.words}};
  return {{"type", "string"}};
}

Json schema_of_type(const RequestField& field) {
  switch (field.type) {
    case FieldType::kBoolean: return {{"type", "boolean"}};
    case FieldType::kInteger: return bounded({{"type", "integer"}}, field, "minimum", "maximum");
    case FieldType::kNumber: return bounded({{"type", "number"}}, field, "minimum", "maximum");
    case FieldType::kText: return bounded(schema_of_words(field), field, "minLength", "maxLength");
    case FieldType::kTexts: {
      const Json texts = {{"type", "array"}, {"items", {{"type", "string"}}}};
      return {{"anyOf", Json::array({{{"type", "string"}}, bounded(texts, field, "minItems", "maxItems")})}};
    }
    case FieldType::kObject: return schema_of_members(field.members);
    case FieldType::kArray: return schema_of_array(field);
    case FieldType::kTextOrObject: return {{"anyOf", Json::array({schema_of_words(field), schema_of_members(field.members)})}};
    case FieldType::kTextOrArray: return {{"anyOf", Json::array({schema_of_words(field), schema_of_array(field)})}};
    case FieldType::kAny: break;
  }
  return Json::object();
}

Json schema_of_field(const RequestField& field) {
  Json schema;
  if (field.use == FieldUse::kOneValue) {
    schema["enum"] = Json::array({parse_json(field.schema, std::string(field.name))});
  } else if (!field.schema.empty()) {
    schema = parse_json(field.schema, std::string(field.name));
  } else {
    schema = schema_of_type(field);
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
  check_object(request, table, "");
}

Json schema_of(const FieldTable& table) {
  Json properties = Json::object(), required = Json::array();
  for (const RequestField& field : table) {
    properties[std::string(field.name)] = schema_of_field(field);
    if (field.required) required.push_back(field.name);
  }
  Json schema = {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", {{"type", "null"}}}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

}  // namespace tritllm::server
