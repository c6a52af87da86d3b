#include "server/api_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

#include "server/api_error.h"

namespace tritllm::server {
namespace {

Routes all_routes() {
  Routes routes;
  add_model_routes(routes);
  add_chat_routes(routes);
  add_completion_routes(routes);
  add_embedding_routes(routes);
  add_response_routes(routes);
  add_tokenize_routes(routes);
  add_ollama_routes(routes);
  add_openapi_routes(routes);
  add_page_routes(routes);
  return routes;
}

bool has_path(const Route& route, std::string_view path) {
  if (!route.path.ends_with('*')) return route.path == path;
  return path.starts_with(route.path.substr(0, route.path.size() - 1));
}

// Ollama's clients expect a text.
HttpResponse error_for(const HttpRequest& request, const ApiError& error) {
  HttpResponse response = error_response(error);
  if (request.path.starts_with("/api/")) response.body = json_line({{"error", error.what()}});
  return response;
}

// Adds the same fields to whatever a route answers.
class DressedExchange final : public Exchange {
 public:
  DressedExchange(std::shared_ptr<Exchange> inner, HttpFields fields) : inner_(std::move(inner)), fields_(std::move(fields)) {}
  void respond(HttpResponse response) override { inner_->respond(dressed(std::move(response))); }
  void begin_stream(HttpResponse head) override { inner_->begin_stream(dressed(std::move(head))); }
  bool send(std::string_view text) override { return inner_->send(text); }
  void end_stream() override { inner_->end_stream(); }
  void watch(std::function<void()> on_left, std::function<void()> on_room) override {
    inner_->watch(std::move(on_left), std::move(on_room));
  }

 private:
  HttpResponse dressed(HttpResponse response) const {
    response.fields.insert(response.fields.end(), fields_.begin(), fields_.end());
    return response;
  }

  const std::shared_ptr<Exchange> inner_;
  const HttpFields fields_;
};

HttpFields common_fields() { return {{"X-Content-Type-Options", "nosniff"}, {"Referrer-Policy", "no-referrer"}}; }

}  // namespace

// A request whose route is known, until the route runs.
struct ApiServer::PreparedCall {
  PreparedCall(HttpRequest&& what, std::shared_ptr<Exchange>&& where) : request(std::move(what)), exchange(std::move(where)) {}

  // Whatever `work` throws becomes the answer.
  template <typename Work>
  void answer_errors(const Work& work) noexcept {
    try {
      work();
    } catch (const ApiError& error) {
      exchange->respond(error_for(request, error));
    } catch (const Error& error) {
      exchange->respond(error_for(request, api_error(error)));
    } catch (const std::bad_alloc&) {
      exchange->respond(error_for(request, ApiError(503, "out of memory")));
    } catch (const std::exception&) {
      exchange->respond(error_for(request, ApiError(500, "internal error; please report it")));
    }
  }

  const HttpRequest request;
  const std::shared_ptr<Exchange> exchange;
  Json body = Json::object();
  std::shared_ptr<void> lease;
};

JsonView Call::view() const { return {body, kRequestPlace}; }

ModelUse Call::model() const { return server.models().get(view().optional_text("model")); }

void Call::respond(const Json& json) const { exchange->respond({.body = json_line(json)}); }

ApiServer::ApiServer(ModelPool& models, const GateOptions& gate) : models_(models), gate_(gate), routes_(all_routes()) {}

ApiServer::~ApiServer() { models_.stop_loading(); }  // requests that wait for a model come back to this

HttpResponse ApiServer::finished(HttpResponse response, const HttpRequest& request) const {
  for (auto fields : {common_fields(), gate_.cross_origin_fields(request)}) {
    response.fields.insert(response.fields.end(), fields.begin(), fields.end());
  }
  return response;
}

HttpResponse ApiServer::malformed(unsigned status, std::string_view problem) {
  HttpResponse response = error_response(ApiError(status, problem));
  for (auto& field : common_fields()) response.fields.push_back(std::move(field));
  return response;
}

const Route& ApiServer::route_of(const HttpRequest& request) const {
  const std::string_view method = request.method == "HEAD" ? std::string_view("GET") : std::string_view(request.method);
  const Route* same_path = nullptr;
  for (const Route& route : routes_) {
    if (!has_path(route, request.path)) continue;
    same_path = &route;
    if (route.method == method) return route;
  }
  if (same_path == nullptr) {
    throw ApiError(404, fmt::format("there is no route {}; GET /openapi.json lists them", printable(request.path, 100)), "",
                   "not_found");
  }
  throw ApiError(405,
                 fmt::format("{} takes {}, not {}", printable(request.path, 100), same_path->method, printable(request.method, 20)),
                 "", "method_not_allowed");
}

std::optional<HttpResponse> ApiServer::refuse(const HttpRequest& head) {
  try {
    gate_.check_source(head);
    // What a browser asks before a page of another site may call.
    if (head.method == "OPTIONS" && head.field("origin")) return finished({.status = 204, .content_type = "", .body = ""}, head);
    const Route& route = route_of(head);
    if (!route.open) static_cast<void>(gate_.check_key(head));
    if (draining() && route.method == "POST") throw ApiError(503, "the server is shutting down", "", "shutting_down");
    return std::nullopt;
  } catch (const ApiError& error) {
    HttpResponse response = error_for(head, error);
    if (error.status() == 401) response.fields.emplace_back("WWW-Authenticate", "Bearer");
    if (error.status() == 405) {
      std::string allowed;
      for (const Route& route : routes_) {
        if (has_path(route, head.path)) allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
      }
      response.fields.emplace_back("Allow", allowed);
    }
    return finished(std::move(response), head);
  }
}

void ApiServer::begin_drain() {
  draining_ = true;
  models_.begin_drain();
}

void ApiServer::handle(HttpRequest request, std::shared_ptr<Exchange> exchange) {
  HttpFields fields = common_fields();
  for (auto& field : gate_.cross_origin_fields(request)) fields.push_back(std::move(field));
  exchange = std::make_shared<DressedExchange>(std::move(exchange), std::move(fields));
  const auto prepared = std::make_shared<PreparedCall>(std::move(request), std::move(exchange));
  prepared->answer_errors([&] {
    const HttpRequest& head = prepared->request;
    const Route& route = route_of(head);
    if (!route.open) prepared->lease = Gate::admit(gate_.check_key(head));
    if (route.method == "POST") {
      prepared->body = parse_json(head.body, kRequestPlace);
      check_fields(prepared->body, route.fields);
    }
    dispatch(route, prepared);
  });
}

void ApiServer::dispatch(const Route& route, const std::shared_ptr<PreparedCall>& prepared) {
  const auto run = [this, run_route = route.run, prepared] {
    prepared->answer_errors([&] {
      run_route({*this, prepared->request, prepared->body, prepared->exchange, std::move(prepared->lease)});
    });
  };
  const std::optional<std::string> name =
      route.needs_model ? JsonView(prepared->body, kRequestPlace).optional_text("model") : std::nullopt;
  if (!route.needs_model || !models_.must_load(name)) return run();
  const auto has_left = std::make_shared<std::atomic<bool>>(false);
  prepared->exchange->watch([has_left] { *has_left = true; }, [] {});
  models_.load_then(
      name, [has_left] { return !*has_left; }, run);
}

}  // namespace tritllm::server
