// Every object in a request of every route, as the tables have them: a member that nobody knows is refused by its path, and what
// may hold anything is listed here.
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

#include "core/json.h"
#include "server/api_error.h"
#include "server/api_server.h"
#include "server/message_fields.h"

namespace tritllm::server {
namespace {

Routes all_routes() {
  Routes routes;
  for (const auto add : {add_model_routes, add_chat_routes, add_completion_routes, add_embedding_routes, add_response_routes,
                         add_tokenize_routes, add_ollama_routes, add_openapi_routes, add_page_routes}) {
    add(routes);
  }
  return routes;
}

Json example_of(const FieldTable& table);

Json example_of(const RequestField& field) {
  if (field.use == FieldUse::kOneValue) return parse_json(field.schema, "schema");
  if (!field.words.empty()) return field.words.front();
  switch (field.type) {
    case FieldType::kBoolean: return true;
    case FieldType::kInteger:
    case FieldType::kNumber: return 1;
    case FieldType::kObject: return field.members.empty() ? Json::object() : example_of(field.members.front());
    case FieldType::kArray: return field.members.empty() ? Json::array() : Json::array({example_of(field.members.front())});
    default: return "text";
  }
}

// The smallest object of the table.
Json example_of(const FieldTable& table) {
  Json object = Json::object();
  for (const RequestField& field : table) {
    // The first field may be what tells shapes apart.
    if (field.required || &field == &table.front()) object[std::string(field.name)] = example_of(field);
  }
  return object;
}

using Make = std::function<Json(Json)>;  // the request with this object at the place
using Visit = std::function<void(const FieldTable& table, const std::string& place, const Make& make)>;

void for_each_object(const FieldTable& table, const std::string& place, const Make& make, const Visit& visit) {
  visit(table, place, make);
  for (const RequestField& field : table) {
    for (const FieldTable& shape : field.members) {
      const bool list = field.type == FieldType::kArray || field.type == FieldType::kTextOrArray;
      const std::string name(field.name);
      const auto inner = [&table, &make, list, name](Json object) {
        Json outer = example_of(table);
        outer[name] = list ? Json::array({std::move(object)}) : std::move(object);
        return make(std::move(outer));
      };
      for_each_object(shape, (place.empty() ? "" : place + ".") + name + (list ? "[0]" : ""), inner, visit);
    }
  }
}

void for_each_object(const Visit& visit) {
  for (const Route& route : all_routes()) {
    if (route.method != "POST") continue;
    SCOPED_TRACE(route.path);
    for_each_object(
        route.fields, "", [](Json object) { return object; },
        [&](const FieldTable& table, const std::string& place, const Make& make) {
          visit(table, place, [&](Json object) {
            Json request = make(std::move(object));
            check_fields(request, route.fields);
            return request;
          });
        });
  }
}

TEST(RouteFields, AnUnknownMemberOfAnyObjectIsRefusedByItsPath) {
  std::set<std::string> places;
  for_each_object([&](const FieldTable& table, const std::string& place, const Make& request_with) {
    places.insert(place);
    Json object = example_of(table);
    EXPECT_NO_THROW(request_with(object)) << place << " " << object;
    object["surprise"] = 1;
    try {
      request_with(object);
      ADD_FAILURE() << place << " takes a surprise";
    } catch (const ApiError& error) {
      EXPECT_EQ(error.param(), place.empty() ? "surprise" : place + ".surprise");
      EXPECT_EQ(error.code(), "unknown_parameter");
    }
  });
  for (const char* const place :
       {"messages[0]", "messages[0].content[0]", "messages[0].tool_calls[0]", "messages[0].tool_calls[0].function", "tools[0]",
        "tools[0].function", "tool_choice", "tool_choice.function", "response_format", "response_format.json_schema",
        "stream_options", "chat_template_kwargs", "reasoning", "text", "text.format", "input[0]", "input[0].content[0]",
        "input[0].output[0]", "options"}) {
    EXPECT_TRUE(places.contains(place)) << place;
  }
}

TEST(RouteFields, AMemberOfTheWrongTypeIsRefusedByItsPath) {
  for_each_object([&](const FieldTable& table, const std::string& place, const Make& request_with) {
    for (const RequestField& field : table) {
      if (field.use != FieldUse::kUsed || field.type == FieldType::kAny) continue;
      Json object = example_of(table);
      object[std::string(field.name)] = field.type == FieldType::kBoolean ? Json(7) : Json(true);
      try {
        request_with(object);
        ADD_FAILURE() << place << "." << field.name << " takes anything";
      } catch (const ApiError& error) {
        EXPECT_EQ(error.param(), (place.empty() ? "" : place + ".") + std::string(field.name));
      }
    }
  });
}

// Everything that the tables let through unread: schemas and numbers by token, which are read elsewhere, and labels.
TEST(RouteFields, OpenObjectsAreTheseAlone) {
  std::set<std::string_view> open;
  for_each_object([&](const FieldTable& table, const std::string&, const Make&) {
    for (const RequestField& field : table) {
      const bool may_hold_objects =
          field.type == FieldType::kObject || field.type == FieldType::kArray || field.type == FieldType::kAny;
      if (may_hold_objects && field.members.empty() && field.use == FieldUse::kUsed) open.insert(field.name);
    }
  });
  EXPECT_EQ(open, (std::set<std::string_view>{"format", "guided_json", "input", "json", "logit_bias", "parameters", "prompt",
                                              "schema", "tokens"}));
}

}  // namespace
}  // namespace tritllm::server
