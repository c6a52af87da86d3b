// Owns the name of the JSON type for headers, without the 25,000 lines that define it. A source file that looks inside a value
// includes core/json.h.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>

namespace tritllm {

// Objects keep the order of their keys, so that a document that is read, changed and written stays recognisable.
using Json = nlohmann::ordered_json;

class JsonView;

// A JSON value as a member: the same as a Json, but a header that holds one needs no definition of Json. Starts as null.
class JsonDocument {
 public:
  JsonDocument();
  JsonDocument(Json value);  // NOLINT(google-explicit-constructor): the two are one value
  ~JsonDocument();
  JsonDocument(const JsonDocument& other);
  JsonDocument(JsonDocument&& other) noexcept;
  JsonDocument& operator=(JsonDocument other) noexcept;

  Json& operator*() noexcept { return *value_; }
  const Json& operator*() const noexcept { return *value_; }
  Json* operator->() noexcept { return value_.get(); }
  const Json* operator->() const noexcept { return value_.get(); }
  operator const Json&() const noexcept { return *value_; }  // NOLINT(google-explicit-constructor)

 private:
  std::unique_ptr<Json> value_;  // null only after a move
};

bool operator==(const JsonDocument& a, const JsonDocument& b);

}  // namespace tritllm
