// Owns the tables of request fields: what a route takes, with types, ranges and help. Checking a request and describing it in
// OpenAPI read the same table, so that they cannot disagree. Does not own what the fields do.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_fwd.h"

namespace tritllm::server {

enum class FieldType { kBoolean, kInteger, kNumber, kText, kTexts, kObject, kArray, kTextOrObject, kTextOrArray, kAny };

enum class FieldUse {
  kUsed,
  kWithoutEffect,  // taken, since it cannot change the answer: a caller's own label
  kOneValue,       // only `schema`, a JSON value, is taken: what this server does anyway
};

struct RequestField;
using FieldTable = std::vector<RequestField>;

struct RequestField {
  std::string_view name;
  FieldType type = FieldType::kAny;
  std::string_view help = {};
  double least = 0, most = 0;  // of numbers; of texts and arrays the lengths, where `most` is not 0
  bool required = false;
  FieldUse use = FieldUse::kUsed;
  std::string_view schema = {};              // JSON; for OpenAPI instead of what `type` says, or the one value
  std::vector<std::string_view> words = {};  // the texts that are taken; empty: any
  // What the object holds, or each item of the array; empty: what it likes. Where there are several shapes, the first field of
  // each, with `words`, says which one an object has; one without that field has the first shape that does not require it.
  std::vector<FieldTable> members = {};
};

// Fields that several routes share.
FieldTable sampling_fields();  // every number of sampling/sampler_options.h, logit_bias and seed
FieldTable joined(std::initializer_list<FieldTable> tables);

// Throws an ApiError that names the field where the request is no object, or where it or an object in it lacks a required field,
// has one that is not in the table, or a value of the wrong type or range. A field that is null counts as absent, even an unknown
// one: clients send back what their own classes hold.
void check_fields(const Json& request, const FieldTable& table);

// The table as a JSON schema of an object.
Json schema_of(const FieldTable& table);

}  // namespace tritllm::server
