// Owns the answer to the request that a connection has open: what other threads add to it waits here until the network's thread
// writes it. Does not own the writing (http_session.cpp).
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "server/http.h"
#include "server/http_connections.h"

namespace tritllm::server {

class HttpAnswer final : public Exchange, public std::enable_shared_from_this<HttpAnswer> {
 public:
  HttpAnswer(std::shared_ptr<HttpConnections> connections, std::shared_ptr<HttpConnection> connection, bool head_only);
  ~HttpAnswer() override;

  void respond(HttpResponse response) override;
  void begin_stream(HttpResponse head) override;
  bool send(std::string_view text) override;
  void end_stream() override;
  void watch(std::function<void()> on_left, std::function<void()> on_room) override;

  // What follows is called by the network's thread.

  // The client is gone.
  void leave();
  // The text to write next; empty where there is none.
  std::string take();
  // Whether nothing will follow.
  bool ended();
  // What was taken is written.
  void wrote();
  bool head_only() const noexcept { return head_only_; }

 private:
  // They hold what holds this answer, so they are dropped with its end; not under the lock.
  struct Callbacks {
    std::function<void()> on_left, on_room;
  };

  void post_response(HttpResponse response, std::shared_ptr<HttpAnswer> answer);
  void wake();
  size_t most_waiting() const noexcept { return connections_->options().stream_bytes; }

  const std::shared_ptr<HttpConnections> connections_;
  const std::shared_ptr<HttpConnection> connection_;
  const bool head_only_;
  std::mutex mutex_;  // of what follows
  std::string waiting_;
  size_t in_flight_ = 0;
  bool answered_ = false, streams_ = false, ended_ = false, left_ = false, wants_room_ = false, woken_ = false;
  Callbacks callbacks_;
};

}  // namespace tritllm::server
