// Owns what an HTTP request and its answer are to the rest of the server: plain structs, and the way an answer goes out whole or
// piece by piece. Does not own sockets (http_server.h) nor what any path means (api_server.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tritllm::server {

using HttpFields = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method, path, query;  // the path as sent, without the query
  HttpFields fields;                // names in lower case
  std::string body;

  // The value of a field; nothing where there is none, the first where there are several.
  std::optional<std::string_view> field(std::string_view name) const noexcept {
    for (const auto& [key, value] : fields) {
      if (key == name) return value;
    }
    return std::nullopt;
  }
};

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  HttpFields fields = {};  // besides those that the connection needs
};

// The answer to one request. All calls are thread-safe. An exchange that is dropped without an answer sends a 500.
class Exchange {
 public:
  virtual ~Exchange() = default;

  // The whole answer, at once. What follows the first answer is ignored.
  virtual void respond(HttpResponse response) = 0;

  // An answer in pieces: its head (without a body), then any number of send(), then end_stream().
  virtual void begin_stream(HttpResponse head) = 0;
  // False: the client reads too slowly; the caller should stop until `on_room`. The text is taken in any case.
  virtual bool send(std::string_view text) = 0;
  virtual void end_stream() = 0;

  // `on_left` is called once where the client leaves before its answer is complete, at once where it has left already; `on_room`
  // after send() has returned false. They come from the network's thread, do not throw, and are forgotten when the answer is
  // complete.
  virtual void watch(std::function<void()> on_left, std::function<void()> on_room) = 0;
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Looks at a request before its body is read; called by the network's thread. The refusal, or nothing.
  virtual std::optional<HttpResponse> refuse(const HttpRequest& head) = 0;
  // Called by the network's thread for a request without a body, which is to be answered quickly, else by a worker.
  virtual void handle(HttpRequest request, std::shared_ptr<Exchange> exchange) = 0;
  // The answer to a request that breaks the protocol or a limit.
  virtual HttpResponse malformed(unsigned status, std::string_view problem) = 0;
};

}  // namespace tritllm::server
