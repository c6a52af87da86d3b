#include "server/http_connections.h"

#include <algorithm>

namespace tritllm::server {

void HttpConnections::add(const std::shared_ptr<HttpConnection>& connection) {
  open_.insert(connection);
  note_connections();
}

void HttpConnections::remove(const std::shared_ptr<HttpConnection>& connection) {
  open_.erase(connection);
  note_connections();
}

void HttpConnections::note_connections() {
  {
    const std::lock_guard lock(mutex_);
    connections_ = open_.size();
  }
  changed_.notify_all();
}

void HttpConnections::abort_all() {
  for (const auto& connection : open_connections()) connection->abort();
}

void HttpConnections::begin_drain() {
  draining_ = true;
  for (const auto& connection : open_connections()) connection->close_if_idle();
  changed_.notify_all();
}

bool HttpConnections::wait_until_drained(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, time, [&] { return draining_ && connections_ == 0; });
}

bool HttpConnections::reserve_body(size_t bytes) noexcept {
  if (bytes > options_.bodies_bytes - std::min(options_.bodies_bytes, body_bytes_)) return false;
  body_bytes_ += bytes;
  return true;
}

}  // namespace tritllm::server
