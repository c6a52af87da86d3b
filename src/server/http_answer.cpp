#include "server/http_answer.h"

#include <boost/asio/post.hpp>
#include <utility>

namespace tritllm::server {

namespace asio = boost::asio;

HttpAnswer::HttpAnswer(std::shared_ptr<HttpConnections> connections, std::shared_ptr<HttpConnection> connection, bool head_only)
    : connections_(std::move(connections)), connection_(std::move(connection)), head_only_(head_only) {
  connections_->add_exchange();
}

HttpAnswer::~HttpAnswer() {
  connections_->remove_exchange();
  if (left_ || (answered_ && (!streams_ || ended_))) return;
  if (streams_) asio::post(connections_->context(), [connection = connection_] { connection->abort(); });
  else post_response(connections_->handler().malformed(500, "the request was dropped"), nullptr);
}

void HttpAnswer::post_response(HttpResponse response, std::shared_ptr<HttpAnswer> answer) {
  asio::post(connections_->context(), [connection = connection_, response = std::move(response), head_only = head_only_,
                                       answer = std::move(answer)]() mutable {
    connection->write_response(std::move(response), head_only, std::move(answer));
  });
}

void HttpAnswer::respond(HttpResponse response) {
  Callbacks dropped;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(answered_, true)) return;
    dropped = std::exchange(callbacks_, {});
  }
  post_response(std::move(response), shared_from_this());
}

void HttpAnswer::begin_stream(HttpResponse head) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(answered_, true)) return;
    streams_ = true;
  }
  asio::post(connections_->context(), [self = shared_from_this(), head = std::move(head)]() mutable {
    self->connection_->write_head(self, std::move(head));
  });
}

bool HttpAnswer::send(std::string_view text) {
  bool full = false;
  {
    const std::lock_guard lock(mutex_);
    if (left_) return true;
    waiting_ += text;
    full = waiting_.size() + in_flight_ > most_waiting();
    wants_room_ = wants_room_ || full;
  }
  wake();
  return !full;
}

void HttpAnswer::end_stream() {
  Callbacks dropped;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    dropped = std::exchange(callbacks_, {});
  }
  wake();
}

void HttpAnswer::watch(std::function<void()> on_left, std::function<void()> on_room) {
  bool has_left = false, has_room = false;
  {
    const std::lock_guard lock(mutex_);
    // The engine may have ended the answer, or filled its stream, before anybody watches.
    if (ended_ || (answered_ && !streams_)) return;
    has_left = left_;
    if (!has_left) {
      callbacks_ = {on_left, on_room};
      has_room = wants_room_ && in_flight_ == 0 && waiting_.size() <= most_waiting() / 2;
      if (has_room) wants_room_ = false;
    }
  }
  if (has_left) on_left();
  else if (has_room) on_room();
}

void HttpAnswer::leave() {
  Callbacks last;
  {
    const std::lock_guard lock(mutex_);
    left_ = true;
    last = std::exchange(callbacks_, {});
    waiting_.clear();
  }
  if (last.on_left) last.on_left();
}

std::string HttpAnswer::take() {
  const std::lock_guard lock(mutex_);
  woken_ = false;
  in_flight_ = waiting_.size();
  return std::exchange(waiting_, {});
}

bool HttpAnswer::ended() {
  const std::lock_guard lock(mutex_);
  return ended_ && waiting_.empty();
}

void HttpAnswer::wrote() {
  std::function<void()> on_room;
  {
    const std::lock_guard lock(mutex_);
    in_flight_ = 0;
    if (wants_room_ && callbacks_.on_room && waiting_.size() <= most_waiting() / 2) {
      wants_room_ = false;
      on_room = callbacks_.on_room;
    }
  }
  if (on_room) on_room();
}

void HttpAnswer::wake() {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(woken_, true)) return;
  }
  asio::post(connections_->context(), [self = shared_from_this()] { self->connection_->write_more(self); });
}

}  // namespace tritllm::server
