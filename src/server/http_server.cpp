#include "server/http_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <type_traits>

#include "core/error.h"

namespace tritllm::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;
using TlsStream = asio::ssl::stream<Tcp::socket>;

constexpr size_t kReadBytes = 16 << 10;
constexpr std::chrono::milliseconds kLingerTime{2'000}, kRetryAccept{100};

std::string lower_case(beast::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return lower;
}

asio::ssl::context tls_context(const HttpOptions& options) {
  asio::ssl::context context(asio::ssl::context::tls_server);
  context.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1);
  error_code error;
  context.use_certificate_chain_file(options.certificate, error);
  if (error) {
    throw Error(ErrorCode::kBadInput, options.certificate, fmt::format("cannot be read as a certificate: {}", error.message()),
                "it is to be a PEM file");
  }
  context.use_private_key_file(options.key, asio::ssl::context::pem, error);
  if (error) {
    throw Error(ErrorCode::kBadInput, options.key,
                fmt::format("cannot be read as the certificate's private key: {}", error.message()), "it is to be a PEM file");
  }
  return context;
}

Tcp::acceptor listener(asio::io_context& context, const HttpOptions& options) {
  error_code error;
  const auto address = asio::ip::make_address(options.address, error);
  if (error) {
    throw Error(ErrorCode::kUsage, "options.host",
                fmt::format("expected an IP address, found '{}'", printable(options.address, 80)),
                "127.0.0.1 is this machine alone, 0.0.0.0 all its networks");
  }
  const Tcp::endpoint endpoint(address, options.port);
  Tcp::acceptor acceptor(context);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    throw Error(ErrorCode::kUsage, "options.port",
                fmt::format("cannot listen on {}:{}: {}", options.address, options.port, error.message()));
  }
  return acceptor;
}

// What the server's list of connections knows of each.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  virtual ~Connection() = default;
  virtual void begin() = 0;
  virtual void close_if_idle() = 0;
  virtual void abort() = 0;
};

}  // namespace

// Everything but `exchanges_`, `connections_` and the wait for them belongs to the network's thread.
class HttpServer::State : public std::enable_shared_from_this<State> {
 public:
  State(const HttpOptions& options, HttpHandler& handler)
      : options_(options),
        handler_(handler),
        context_(1),
        acceptor_(listener(context_, options)),
        retry_(context_),
        workers_(options.workers) {
    if (!options.certificate.empty()) tls_.emplace(tls_context(options));
    port_ = acceptor_.local_endpoint().port();
  }

  void start() {
    accept();
    thread_ = std::thread([this] { context_.run(); });
  }

  void stop() {
    workers_.stop();
    workers_.join();
    asio::post(context_, [this] {
      stop_accepting();
      for (const auto& connection : open_connections()) connection->abort();
    });
    if (!thread_.joinable()) {
      context_.run();
      return;
    }
    thread_.join();
  }

  bool drain(std::chrono::milliseconds time) {
    asio::post(context_, [this] {
      draining_ = true;
      stop_accepting();
      for (const auto& connection : open_connections()) connection->close_if_idle();
      changed_.notify_all();
    });
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, time, [&] { return draining_ && connections_ == 0; });
  }

  void add(const std::shared_ptr<Connection>& connection) {
    open_.insert(connection);
    note_connections();
  }
  void remove(const std::shared_ptr<Connection>& connection) {
    open_.erase(connection);
    note_connections();
  }

  // Whether a body of so many bytes may be read now.
  bool reserve_body(size_t bytes) noexcept {
    if (bytes > options_.bodies_bytes - std::min(options_.bodies_bytes, body_bytes_)) return false;
    body_bytes_ += bytes;
    return true;
  }
  void release_body(size_t bytes) noexcept { body_bytes_ -= bytes; }

  const HttpOptions& options() const noexcept { return options_; }
  HttpHandler& handler() noexcept { return handler_; }
  asio::io_context& context() noexcept { return context_; }
  asio::thread_pool& workers() noexcept { return workers_; }
  bool draining() const noexcept { return draining_; }

  const HttpOptions options_;
  HttpHandler& handler_;
  asio::io_context context_;
  Tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  std::optional<asio::ssl::context> tls_;
  uint16_t port_ = 0;
  std::atomic<size_t> connections_{0}, exchanges_{0};

 private:
  void accept();
  void stop_accepting() {
    error_code ignored;
    acceptor_.close(ignored);
    retry_.cancel();
  }

  // A copy, since a connection that ends removes itself.
  std::vector<std::shared_ptr<Connection>> open_connections() const { return {open_.begin(), open_.end()}; }
  void note_connections() {
    {
      const std::lock_guard lock(mutex_);
      connections_ = open_.size();
    }
    changed_.notify_all();
  }

  std::set<std::shared_ptr<Connection>> open_;  // until they are closed
  size_t body_bytes_ = 0;
  std::atomic<bool> draining_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  asio::thread_pool workers_;
  std::thread thread_;
};

namespace {

using State = HttpServer::State;

// One connection and the request that it answers now. `Stream` is a TCP socket or TLS over one.
template <typename Stream>
class Session final : public Connection {
 public:
  Session(std::shared_ptr<State> state, Stream&& stream)
      : state_(std::move(state)), stream_(std::move(stream)), deadline_(state_->context()), ping_(state_->context()) {}

  void begin() override {
    state_->add(self());
    set_deadline(state_->options().header_time);
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_.async_handshake(asio::ssl::stream_base::server, [self = self()](error_code error) {
        if (error) return self->abort();
        self->wait_for_request(self->state_->options().header_time);
      });
    } else {
      wait_for_request(state_->options().header_time);
    }
  }

  void close_if_idle() override {
    if (phase_ == Phase::kIdle) abort();
  }

  void abort() override {
    if (phase_ == Phase::kClosed) return;
    phase_ = Phase::kClosed;
    deadline_.cancel();
    ping_.cancel();
    release_body();
    error_code ignored;
    socket().shutdown(Tcp::socket::shutdown_both, ignored);
    socket().close(ignored);
    if (const auto answer = answer_.lock()) answer->leave();
    state_->remove(self());
  }

 private:
  enum class Phase { kIdle, kReading, kAnswering, kLingering, kClosed };

  // The answer to the request that is open. What other threads add to it waits in `waiting_` until the network's thread takes it.
  class Answer final : public Exchange, public std::enable_shared_from_this<Answer> {
   public:
    Answer(std::shared_ptr<Session> session, bool head_only) : session_(std::move(session)), head_only_(head_only) {
      ++session_->state_->exchanges_;
    }
    ~Answer() override {
      --session_->state_->exchanges_;
      if (left_ || (answered_ && (!streams_ || ended_))) return;
      if (streams_) asio::post(session_->state_->context(), [session = session_] { session->abort(); });
      else session_->post_response(session_->state_->handler().malformed(500, "the request was dropped"), head_only_, nullptr);
    }

    void respond(HttpResponse response) override {
      Callbacks dropped;
      {
        const std::lock_guard lock(mutex_);
        if (std::exchange(answered_, true)) return;
        dropped = std::exchange(callbacks_, {});
      }
      session_->post_response(std::move(response), head_only_, this->shared_from_this());
    }

    void begin_stream(HttpResponse head) override {
      {
        const std::lock_guard lock(mutex_);
        if (std::exchange(answered_, true)) return;
        streams_ = true;
      }
      const auto self = this->shared_from_this();
      asio::post(session_->state_->context(),
                 [self, head = std::move(head)]() mutable { self->session_->write_head(self, std::move(head)); });
    }

    bool send(std::string_view text) override {
      bool full = false;
      {
        const std::lock_guard lock(mutex_);
        if (left_) return true;
        waiting_ += text;
        full = waiting_.size() + in_flight_ > session_->state_->options().stream_bytes;
        wants_room_ = wants_room_ || full;
      }
      wake();
      return !full;
    }

    void end_stream() override {
      Callbacks dropped;
      {
        const std::lock_guard lock(mutex_);
        ended_ = true;
        dropped = std::exchange(callbacks_, {});
      }
      wake();
    }

    void watch(std::function<void()> on_left, std::function<void()> on_room) override {
      bool has_left = false, has_room = false;
      {
        const std::lock_guard lock(mutex_);
        // The engine may have ended the answer, or filled its stream, before anybody watches.
        if (ended_ || (answered_ && !streams_)) return;
        has_left = left_;
        if (!has_left) {
          callbacks_ = {on_left, on_room};
          has_room = wants_room_ && in_flight_ == 0 && waiting_.size() <= session_->state_->options().stream_bytes / 2;
          if (has_room) wants_room_ = false;
        }
      }
      if (has_left) on_left();
      else if (has_room) on_room();
    }

    // From here on: called by the network's thread.

    void leave() {
      Callbacks last;
      {
        const std::lock_guard lock(mutex_);
        left_ = true;
        last = std::exchange(callbacks_, {});
        waiting_.clear();
      }
      if (last.on_left) last.on_left();
    }

    // The text to write next; empty where there is none.
    std::string take() {
      const std::lock_guard lock(mutex_);
      woken_ = false;
      in_flight_ = waiting_.size();
      return std::exchange(waiting_, {});
    }
    bool ended() {
      const std::lock_guard lock(mutex_);
      return ended_ && waiting_.empty();
    }
    void wrote() {
      std::function<void()> on_room;
      {
        const std::lock_guard lock(mutex_);
        in_flight_ = 0;
        if (wants_room_ && callbacks_.on_room && waiting_.size() <= session_->state_->options().stream_bytes / 2) {
          wants_room_ = false;
          on_room = callbacks_.on_room;
        }
      }
      if (on_room) on_room();
    }
    bool head_only() const noexcept { return head_only_; }

   private:
    // They hold what holds this answer, so they are dropped with its end; not under the lock.
    struct Callbacks {
      std::function<void()> on_left, on_room;
    };

    void wake() {
      {
        const std::lock_guard lock(mutex_);
        if (std::exchange(woken_, true)) return;
      }
      const auto self = this->shared_from_this();
      asio::post(session_->state_->context(), [self] { self->session_->write_more(self); });
    }

    const std::shared_ptr<Session> session_;
    const bool head_only_;
    std::mutex mutex_;  // of what follows
    std::string waiting_;
    size_t in_flight_ = 0;
    bool answered_ = false, streams_ = false, ended_ = false, left_ = false, wants_room_ = false, woken_ = false;
    Callbacks callbacks_;
  };

  std::shared_ptr<Session> self() { return std::static_pointer_cast<Session>(shared_from_this()); }

  Tcp::socket& socket() noexcept {
    if constexpr (std::is_same_v<Stream, TlsStream>) return stream_.next_layer();
    else return stream_;
  }

  void set_deadline(std::chrono::milliseconds time) {
    deadline_.expires_after(time);
    deadline_.async_wait([weak = this->weak_from_this()](error_code error) {
      const auto connection = weak.lock();
      if (!error && connection) connection->abort();
    });
  }
  void clear_deadline() { deadline_.cancel(); }

  // Reading

  void wait_for_request(std::chrono::milliseconds time) {
    if (phase_ == Phase::kClosed) return;
    if (state_->draining()) return abort();
    phase_ = Phase::kIdle;
    set_deadline(time);
    if (buffer_.size() > 0) return read_header();
    if (!reading_) read_bytes();
  }

  // Reads the first bytes of the next request, or the news that the client has left. Not while the buffer holds something, so that
  // never two reads are under way.
  void read_bytes() {
    reading_ = true;
    stream_.async_read_some(buffer_.prepare(kReadBytes), [self = self()](error_code error, size_t bytes) {
      self->reading_ = false;
      if (error) return self->abort();
      self->buffer_.commit(bytes);
      if (self->phase_ == Phase::kIdle) return self->read_header();
      if (self->phase_ == Phase::kLingering) self->discard();
    });
  }

  void read_header() {
    phase_ = Phase::kReading;
    set_deadline(state_->options().header_time);
    parser_.emplace();
    head_only_ = false;
    parser_->header_limit(static_cast<uint32_t>(state_->options().header_bytes));
    parser_->body_limit(state_->options().body_bytes);
    http::async_read_header(stream_, buffer_, *parser_, [self = self()](error_code error, size_t) { self->take_header(error); });
  }

  void take_header(error_code error) {
    if (phase_ == Phase::kClosed) return;
    if (error) return refuse_malformed(error);
    const auto& message = parser_->get();
    head_only_ = message.method() == http::verb::head;
    if (static_cast<size_t>(std::distance(message.begin(), message.end())) > state_->options().header_fields) {
      return refuse(state_->handler().malformed(431, fmt::format("more than {} header fields", state_->options().header_fields)));
    }
    if (!take_head(message)) return refuse(state_->handler().malformed(400, "the request's target is not a path"));
    if (const auto refusal = state_->handler().refuse(request_)) {
      // Without a body the connection is as good as before.
      if (parser_->is_done()) return answer_refusal(*refusal);
      return refuse(*refusal);
    }
    if (parser_->is_done()) return run();
    reserved_ = static_cast<size_t>(parser_->content_length().value_or(state_->options().body_bytes));
    if (!state_->reserve_body(reserved_)) {
      reserved_ = 0;
      return refuse(state_->handler().malformed(503, "too many requests are being read"));
    }
    set_deadline(state_->options().body_time);
    if (beast::iequals(message[http::field::expect], "100-continue")) return invite_body();
    read_body();
  }

  bool take_head(const http::request<http::string_body>& message) {
    request_ = {};
    request_.method = std::string(message.method_string());
    const auto target = message.target();
    if (target.empty() || target[0] != '/') return false;
    const size_t mark = target.find('?');
    request_.path = std::string(target.substr(0, mark));
    if (mark != target.npos) request_.query = std::string(target.substr(mark + 1));
    for (const auto& field : message) request_.fields.emplace_back(lower_case(field.name_string()), std::string(field.value()));
    return true;
  }

  void invite_body() {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(stream_, asio::buffer(kContinue), [self = self()](error_code error, size_t) {
      if (error) return self->abort();
      self->read_body();
    });
  }

  void read_body() {
    http::async_read(stream_, buffer_, *parser_, [self = self()](error_code error, size_t) {
      if (self->phase_ == Phase::kClosed) return;
      if (error) return self->refuse_malformed(error);
      self->run();
    });
  }

  void refuse_malformed(error_code error) {
    if (error == http::error::header_limit) return refuse(state_->handler().malformed(431, "the header is too large"));
    if (error == http::error::body_limit) {
      return refuse(
          state_->handler().malformed(413, fmt::format("the body is larger than {} bytes", state_->options().body_bytes)));
    }
    const bool of_protocol = error.category() == make_error_code(http::error::bad_version).category();
    if (!of_protocol || error == http::error::end_of_stream || error == http::error::partial_message) return abort();
    refuse(state_->handler().malformed(400, fmt::format("not an HTTP request: {}", error.message())));
  }

  void run() {
    clear_deadline();
    phase_ = Phase::kAnswering;
    keep_alive_ = parser_->get().keep_alive();
    http_1_1_ = parser_->get().version() >= 11;
    request_.body = std::move(parser_->get().body());
    const size_t unused = reserved_ - std::min(reserved_, request_.body.size());
    state_->release_body(unused);
    reserved_ -= unused;
    parser_.reset();
    const auto answer = std::make_shared<Answer>(self(), head_only_);
    answer_ = answer;
    if (!reading_ && buffer_.size() == 0) read_bytes();
    if (request_.body.empty()) return state_->handler().handle(std::move(request_), answer);
    asio::post(state_->workers(), [handler = &state_->handler(), request = std::move(request_), answer]() mutable {
      handler->handle(std::move(request), std::move(answer));
    });
  }

  // Writing

  // The answer is followed by the end of the connection, since the rest of the request was not read.
  void refuse(HttpResponse response) {
    phase_ = Phase::kAnswering;
    keep_alive_ = false;
    write_response(std::move(response), head_only_, nullptr);
  }
  void answer_refusal(HttpResponse response) {
    phase_ = Phase::kAnswering;
    keep_alive_ = parser_->get().keep_alive();
    parser_.reset();
    write_response(std::move(response), head_only_, nullptr);
  }

  void post_response(HttpResponse response, bool head_only, std::shared_ptr<Answer> answer) {
    asio::post(state_->context(), [self = self(), response = std::move(response), head_only, answer]() mutable {
      self->write_response(std::move(response), head_only, std::move(answer));
    });
  }

  template <typename Message>
  void set_head(Message& message, HttpResponse& response) {
    if (state_->draining()) keep_alive_ = false;
    message.result(response.status);
    if (!response.content_type.empty()) message.set(http::field::content_type, response.content_type);
    for (const auto& [name, value] : response.fields) message.set(name, value);
    message.keep_alive(keep_alive_);
  }

  void write_response(HttpResponse response, bool head_only, std::shared_ptr<Answer> answer) {
    if (phase_ != Phase::kAnswering) return;
    auto message = std::make_shared<http::response<http::string_body>>();
    message->version(11);
    set_head(*message, response);
    const size_t size = response.body.size();
    if (!head_only) message->body() = std::move(response.body);
    if (response.status != 204) message->content_length(size);  // RFC 9110, 8.6
    set_deadline(state_->options().write_time);
    http::async_write(stream_, *message, [self = self(), message, answer](error_code error, size_t) {
      if (error) return self->abort();
      self->answer_done();
    });
  }

  void write_head(const std::shared_ptr<Answer>& answer, HttpResponse response) {
    if (phase_ != Phase::kAnswering) return;
    is_events_ = response.content_type.starts_with("text/event-stream");
    if (!http_1_1_) keep_alive_ = false;
    auto message = std::make_shared<http::response<http::empty_body>>();
    message->version(11);
    set_head(*message, response);
    message->chunked(http_1_1_);
    auto serializer = std::make_shared<http::response_serializer<http::empty_body>>(*message);
    writing_ = true;
    set_deadline(state_->options().write_time);
    http::async_write_header(stream_, *serializer, [self = self(), message, serializer, answer](error_code error, size_t) {
      if (self->phase_ == Phase::kClosed) return;
      if (error) return self->abort();
      self->writing_ = false;
      self->streaming_ = true;
      self->clear_deadline();
      if (answer->head_only()) return self->answer_done();
      self->wait_to_ping(answer);
      self->write_more(answer);
    });
  }

  void write_more(const std::shared_ptr<Answer>& answer) {
    if (phase_ != Phase::kAnswering || !streaming_ || writing_ || answer != answer_.lock()) return;
    auto text = std::make_shared<std::string>(answer->take());
    if (text->empty()) {
      if (answer->ended()) end_chunks();
      return;
    }
    write_chunk(answer, std::move(text));
  }

  void write_chunk(const std::shared_ptr<Answer>& answer, std::shared_ptr<std::string> text) {
    writing_ = true;
    silent_ = false;
    set_deadline(state_->options().write_time);
    const auto done = [self = self(), text, answer](error_code error, size_t) {
      if (self->phase_ == Phase::kClosed) return;
      if (error) return self->abort();
      self->writing_ = false;
      self->clear_deadline();
      answer->wrote();
      self->write_more(answer);
    };
    if (http_1_1_) asio::async_write(stream_, http::make_chunk(asio::buffer(*text)), done);
    else asio::async_write(stream_, asio::buffer(*text), done);
  }

  void end_chunks() {
    writing_ = true;
    if (!http_1_1_) return answer_done();
    set_deadline(state_->options().write_time);
    asio::async_write(stream_, http::make_chunk_last(), [self = self()](error_code error, size_t) {
      if (error) return self->abort();
      self->answer_done();
    });
  }

  // A proxy in between ends a connection on which nothing happens.
  void wait_to_ping(const std::shared_ptr<Answer>& answer) {
    if (!is_events_) return;
    silent_ = true;
    ping_.expires_after(state_->options().ping_time);
    ping_.async_wait([weak = std::weak_ptr(answer), self = self()](error_code error) {
      const auto open = weak.lock();
      if (error || !open || self->answer_.lock() != open) return;
      if (self->silent_ && !self->writing_) self->write_chunk(open, std::make_shared<std::string>(": still working\n\n"));
      self->wait_to_ping(open);
    });
  }

  void answer_done() {
    if (phase_ == Phase::kClosed) return;
    clear_deadline();
    ping_.cancel();
    streaming_ = writing_ = false;
    answer_.reset();
    release_body();
    if (keep_alive_ && !state_->draining()) return wait_for_request(state_->options().idle_time);
    linger();
  }

  // A socket that is closed while bytes of the client wait in it sends a reset, which may overtake the answer.
  void linger() {
    phase_ = Phase::kLingering;
    set_deadline(kLingerTime);
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      if (reading_) return abort();
      stream_.async_shutdown([self = self()](error_code) { self->abort(); });
    } else {
      error_code ignored;
      socket().shutdown(Tcp::socket::shutdown_send, ignored);
      if (!reading_) discard();
    }
  }
  void discard() {
    buffer_.clear();
    reading_ = true;
    stream_.async_read_some(buffer_.prepare(kReadBytes), [self = self()](error_code error, size_t) {
      self->reading_ = false;
      if (error) return self->abort();
      self->discard();
    });
  }

  void release_body() { state_->release_body(std::exchange(reserved_, 0)); }

  const std::shared_ptr<State> state_;
  Stream stream_;
  asio::steady_timer deadline_, ping_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  HttpRequest request_;
  Phase phase_ = Phase::kIdle;
  std::weak_ptr<Answer> answer_;
  size_t reserved_ = 0;   // bytes of State::reserve_body()
  bool reading_ = false;  // read_bytes() or discard() is under way
  bool writing_ = false, streaming_ = false, silent_ = false;
  bool head_only_ = false, keep_alive_ = false, http_1_1_ = true, is_events_ = false;
};

}  // namespace

void HttpServer::State::accept() {
  acceptor_.async_accept([this](error_code error, Tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (error) {
      // Out of descriptors, most likely: connections that end give some back.
      retry_.expires_after(kRetryAccept);
      retry_.async_wait([this](error_code stopped) {
        if (!stopped) accept();
      });
      return;
    }
    if (open_.size() < options_.connections) {
      error_code ignored;
      socket.set_option(Tcp::no_delay(true), ignored);
      std::shared_ptr<Connection> connection;
      if (tls_) connection = std::make_shared<Session<TlsStream>>(shared_from_this(), TlsStream(std::move(socket), *tls_));
      else connection = std::make_shared<Session<Tcp::socket>>(shared_from_this(), std::move(socket));
      connection->begin();
    }
    accept();
  });
}

HttpServer::HttpServer(const HttpOptions& options, HttpHandler& handler) : state_(std::make_shared<State>(options, handler)) {}
HttpServer::~HttpServer() { state_->stop(); }
void HttpServer::start() { state_->start(); }
uint16_t HttpServer::port() const noexcept { return state_->port_; }
size_t HttpServer::connections() const noexcept { return state_->connections_; }
size_t HttpServer::exchanges() const noexcept { return state_->exchanges_; }
bool HttpServer::drain(std::chrono::milliseconds time) { return state_->drain(time); }

}  // namespace tritllm::server
