// Owns what all connections of a server share: options, the network's context, workers, the list of those that are open, and the
// memory that bodies of requests may take. Does not own listening (http_server.cpp) nor the protocol (http_session.cpp).
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "server/http_server.h"

namespace tritllm::server {

class HttpAnswer;

// One connection, as the list and the answer to its request see it. All belongs to the network's thread.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  virtual ~HttpConnection() = default;
  virtual void begin() = 0;
  virtual void close_if_idle() = 0;
  virtual void abort() = 0;

  // The whole answer; it is kept until it is written.
  virtual void write_response(HttpResponse response, bool head_only, std::shared_ptr<HttpAnswer> answer) = 0;
  // The head of an answer in pieces, and what it holds by now.
  virtual void write_head(const std::shared_ptr<HttpAnswer>& answer, HttpResponse response) = 0;
  virtual void write_more(const std::shared_ptr<HttpAnswer>& answer) = 0;
};

// Everything but the counts and the wait for them belongs to the network's thread.
class HttpConnections {
 public:
  HttpConnections(const HttpOptions& options, HttpHandler& handler)
      : options_(options), handler_(handler), context_(1), workers_(options.workers) {}

  const HttpOptions& options() const noexcept { return options_; }
  HttpHandler& handler() noexcept { return handler_; }
  boost::asio::io_context& context() noexcept { return context_; }
  boost::asio::thread_pool& workers() noexcept { return workers_; }

  void add(const std::shared_ptr<HttpConnection>& connection);
  void remove(const std::shared_ptr<HttpConnection>& connection);
  size_t size() const noexcept { return open_.size(); }
  void abort_all();

  // No further request is taken, and idle connections are closed.
  void begin_drain();
  bool draining() const noexcept { return draining_; }

  // Whether bodies may take so many bytes more.
  bool reserve_body(size_t bytes) noexcept;
  void release_body(size_t bytes) noexcept { body_bytes_ -= bytes; }

  // Thread-safe.
  void add_exchange() noexcept { ++exchanges_; }
  void remove_exchange() noexcept { --exchanges_; }
  size_t exchanges() const noexcept { return exchanges_; }
  size_t connections() const noexcept { return connections_; }
  // Whether, after begin_drain(), the last connection was closed within this time.
  bool wait_until_drained(std::chrono::milliseconds time);

 private:
  // A copy, since a connection that ends removes itself.
  std::vector<std::shared_ptr<HttpConnection>> open_connections() const { return {open_.begin(), open_.end()}; }
  void note_connections();

  const HttpOptions options_;
  HttpHandler& handler_;
  boost::asio::io_context context_;
  std::atomic<size_t> connections_{0}, exchanges_{0};
  std::set<std::shared_ptr<HttpConnection>> open_;  // until they are closed
  size_t body_bytes_ = 0;
  std::atomic<bool> draining_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  boost::asio::thread_pool workers_;
};

}  // namespace tritllm::server
