// Owns listening, and the one thread that serves all connections; a few workers run the handlers of requests that have a body. Does
// not own a connection (http_session.h) nor what a request means (HttpHandler).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "server/http.h"

namespace tritllm::server {

struct HttpOptions {
  std::string address = "127.0.0.1";
  uint16_t port = 8080;            // 0: any free one
  std::string certificate, key;    // PEM files; both or neither
  unsigned workers = 2;            // threads that run handlers
  size_t connections = 4096;       // further ones are closed at once
  size_t header_bytes = 16 << 10;  // of request line and fields
  size_t header_fields = 100;
  size_t body_bytes = 8 << 20;
  size_t bodies_bytes = 256 << 20;  // of all requests that are being read or answered
  size_t stream_bytes = 64 << 10;   // that may wait for a slow reader before its stream pauses
  std::chrono::milliseconds header_time{10'000}, body_time{30'000}, idle_time{75'000};
  std::chrono::milliseconds write_time{30'000};  // without progress
  std::chrono::milliseconds ping_time{15'000};   // between comments in a silent event stream
};

class HttpServer {
 public:
  // Binds and listens, but accepts nothing before start(). The handler outlives the server. Throws an Error that names
  // "options.host", "options.port" or the certificate's file.
  HttpServer(const HttpOptions& options, HttpHandler& handler);
  // Ends every connection.
  ~HttpServer();

  void start();
  uint16_t port() const noexcept;
  // Connections that are open, and requests that are being answered.
  size_t connections() const noexcept;
  size_t exchanges() const noexcept;

  // Accepts no more connections and closes idle ones. True when every answer was complete within this time.
  bool drain(std::chrono::milliseconds time);

 private:
  class Listener;
  std::unique_ptr<Listener> listener_;
};

}  // namespace tritllm::server
