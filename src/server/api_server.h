// Owns what all routes share, and the way of a request to its route: gate, models, metrics, the table of routes. Does not own
// connections (http_server.h) nor what a route answers.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "server/fields.h"
#include "server/gate.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/model_pool.h"

namespace tritllm::server {

class ApiServer;

// A request that has passed the gate and the check of its fields.
struct Call {
  ApiServer& server;
  const HttpRequest& request;
  const Json& body;                    // an object; empty where the route takes none
  std::shared_ptr<Exchange> exchange;  // the route answers here
  std::shared_ptr<void> lease;         // of the key's limits

  JsonView view() const;
  // The model that the request names.
  ModelUse model() const;
  void respond(const Json& json) const;
};

struct Route {
  std::string_view method, path;  // a path that ends in '*' stands for all that begin so
  std::string_view summary;
  bool open = false;  // without a key
  FieldTable fields = {};
  std::vector<std::string_view> answers = {"application/json"};  // content types
  bool needs_model = false;                                      // is run once the model that the request names is loaded
  void (*run)(const Call& call);
};

// Each file of routes has a function that appends its own.
using Routes = std::vector<Route>;
void add_model_routes(Routes& routes);
void add_chat_routes(Routes& routes);
void add_completion_routes(Routes& routes);
void add_embedding_routes(Routes& routes);
void add_response_routes(Routes& routes);
void add_tokenize_routes(Routes& routes);
void add_ollama_routes(Routes& routes);
void add_openapi_routes(Routes& routes);
void add_page_routes(Routes& routes);

class ApiServer final : public HttpHandler {
 public:
  ApiServer(ModelPool& models, const GateOptions& gate);
  ~ApiServer() override;

  // From now on /health says that the server is shutting down, and no request is accepted.
  void begin_drain();
  bool draining() const noexcept { return draining_; }

  std::optional<HttpResponse> refuse(const HttpRequest& head) override;
  void handle(HttpRequest request, std::shared_ptr<Exchange> exchange) override;
  HttpResponse malformed(unsigned status, std::string_view problem) override;

  ModelPool& models() noexcept { return models_; }
  Metrics& metrics() noexcept { return metrics_; }
  const Gate& gate() const noexcept { return gate_; }
  const Routes& routes() const noexcept { return routes_; }

 private:
  struct PreparedCall;
  // Runs the route now, or when its model is loaded.
  void dispatch(const Route& route, const std::shared_ptr<PreparedCall>& prepared);
  // Throws an ApiError of 404 or 405.
  const Route& route_of(const HttpRequest& request) const;
  HttpResponse finished(HttpResponse response, const HttpRequest& request) const;

  ModelPool& models_;
  Gate gate_;
  Metrics metrics_;
  Routes routes_;
  std::atomic<bool> draining_{false};
};

}  // namespace tritllm::server
