// The route /openapi.json: what the tables of routes and fields say, for programs.
#include "server/api_error.h"
#include "server/api_server.h"

namespace tritllm::server {
namespace {

Json json_content(Json schema) { return {{"application/json", {{"schema", std::move(schema)}}}}; }

Json error_answer() {
  const Json text = {{"type", "string"}}, maybe = {{"type", Json::array({"string", "null"})}};
  const Json error = {{"type", "object"},
                      {"properties", {{"message", text}, {"type", text}, {"param", maybe}, {"code", maybe}}},
                      {"required", Json::array({"message", "type", "param", "code"})}};
  return {{"description", "The request was not answered; the error names the field"},
          {"content", json_content({{"anyOf", Json::array({{{"type", "object"}, {"properties", {{"error", error}}}},
                                                           {{"type", "object"}, {"properties", {{"error", text}}}},
                                                           {{"type", "object"}, {"properties", {{"status", text}}}}})}})}};
}

Json operation_of(const Route& route) {
  Json answer = {{"description", "The answer"}};
  Json content = Json::object();
  for (const std::string_view type : route.answers) content[std::string(type)] = Json::object();
  answer["content"] = std::move(content);
  Json operation = {{"summary", route.summary}, {"responses", {{"200", std::move(answer)}, {"default", error_answer()}}}};
  if (route.path.ends_with('*')) {
    operation["parameters"] =
        Json::array({{{"name", "name"}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}});
  }
  if (route.method == "POST") {
    operation["requestBody"] = {{"required", true}, {"content", json_content(schema_of(route.fields))}};
  }
  if (route.open) operation["security"] = Json::array();
  return operation;
}

std::string documented_path(std::string_view path) {
  return path.ends_with('*') ? std::string(path.substr(0, path.size() - 1)) + "{name}" : std::string(path);
}

void openapi(const Call& call) {
  Json paths = Json::object();
  for (const Route& route : call.server.routes()) {
    const char* const method = route.method == "POST" ? "post" : "get";
    paths[documented_path(route.path)][method] = operation_of(route);
  }
  Json document = {{"openapi", "3.1.0"},
                   {"info", {{"title", "tritllm"}, {"version", TRITLLM_VERSION}}},
                   {"paths", std::move(paths)},
                   {"components", {{"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}}};
  if (call.server.gate().asks_for_key()) document["security"] = Json::array({{{"key", Json::array()}}});
  call.respond(document);
}

}  // namespace

void add_openapi_routes(Routes& routes) {
  routes.push_back({.method = "GET", .path = "/openapi.json", .summary = "This description", .run = openapi});
}

}  // namespace tritllm::server
