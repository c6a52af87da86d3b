// Owns the way from a JSON schema to a grammar of the texts that satisfy it. What cannot be guaranteed is refused by name, so that
// an answer is never less than what was asked for. The texts are a subset: properties come in the schema's order, none but the
// declared ones, and white space is at most a space after ':' and ','.
#pragma once

#include "core/json.h"
#include "sampling/byte_grammar.h"

namespace tritllm {

// Any JSON object.
ByteGrammar json_object_grammar();

// Texts that satisfy the schema, between two fixed texts. Several schemas: any one of them, each with texts of its own.
struct FramedSchema {
  std::string before;
  JsonView schema;
  std::string after;
};
// Throws an Error that names the keyword's place where the schema cannot be honoured.
ByteGrammar json_schema_grammar(const std::vector<FramedSchema>& schemas);

}  // namespace tritllm
