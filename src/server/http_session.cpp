#include "server/http_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "server/http_answer.h"

namespace tritllm::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;
using TlsStream = asio::ssl::stream<Tcp::socket>;

constexpr size_t kReadBytes = 16 << 10;
constexpr std::chrono::milliseconds kLingerTime{2'000};

std::string lower_case(beast::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return lower;
}

// A body whose memory grows with what arrives; Beast's own takes at once what Content-Length announces.
struct ArrivingBody {
  using value_type = std::string;
  class reader {
   public:
    template <bool is_request, typename Fields>
    reader(http::header<is_request, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<uint64_t>&, error_code& error) { error = {}; }
    template <typename Buffers>
    size_t put(const Buffers& buffers, error_code& error) {
      error = {};
      size_t size = 0;
      for (const auto part : beast::buffers_range_ref(buffers)) {
        body_.append(static_cast<const char*>(part.data()), part.size());
        size += part.size();
      }
      return size;
    }
    void finish(error_code& error) { error = {}; }

   private:
    value_type& body_;
  };
};

// One connection and the request that it answers now. `Stream` is a TCP socket or TLS over one.
template <typename Stream>
class Session final : public HttpConnection {
 public:
  Session(std::shared_ptr<HttpConnections> all, Stream&& stream)
      : all_(std::move(all)), stream_(std::move(stream)), deadline_(all_->context()), ping_(all_->context()) {}

  void begin() override {
    all_->add(self());
    set_deadline(all_->options().header_time);
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_.async_handshake(asio::ssl::stream_base::server, [self = self()](error_code error) {
        if (error) return self->abort();
        self->wait_for_request(self->all_->options().header_time);
      });
    } else {
      wait_for_request(all_->options().header_time);
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
    all_->remove(self());
  }

  void write_response(HttpResponse response, bool head_only, std::shared_ptr<HttpAnswer> answer) override {
    if (phase_ != Phase::kAnswering) return;
    auto message = std::make_shared<http::response<http::string_body>>();
    message->version(11);
    set_head(*message, response);
    const size_t size = response.body.size();
    if (!head_only) message->body() = std::move(response.body);
    if (response.status != 204) message->content_length(size);  // RFC 9110, 8.6
    set_deadline(all_->options().write_time);
    http::async_write(stream_, *message, [self = self(), message, answer](error_code error, size_t) {
      if (error) return self->abort();
      self->answer_done();
    });
  }

  void write_head(const std::shared_ptr<HttpAnswer>& answer, HttpResponse response) override {
    if (phase_ != Phase::kAnswering) return;
    is_events_ = response.content_type.starts_with("text/event-stream");
    if (!http_1_1_) keep_alive_ = false;
    auto message = std::make_shared<http::response<http::empty_body>>();
    message->version(11);
    set_head(*message, response);
    message->chunked(http_1_1_);
    auto serializer = std::make_shared<http::response_serializer<http::empty_body>>(*message);
    writing_ = true;
    set_deadline(all_->options().write_time);
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

  void write_more(const std::shared_ptr<HttpAnswer>& answer) override {
    if (phase_ != Phase::kAnswering || !streaming_ || writing_ || answer != answer_.lock()) return;
    auto text = std::make_shared<std::string>(answer->take());
    if (text->empty()) {
      if (answer->ended()) end_chunks();
      return;
    }
    write_chunk(answer, std::move(text));
  }

 private:
  enum class Phase { kIdle, kReading, kAnswering, kLingering, kClosed };

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
    if (all_->draining()) return abort();
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
      if (std::is_same_v<Stream, TlsStream> && self->phase_ == Phase::kLingering) return self->shut_tls();
      if (error) return self->abort();
      self->buffer_.commit(bytes);
      if (self->phase_ == Phase::kIdle) return self->read_header();
      if (self->phase_ == Phase::kLingering) self->discard();
    });
  }

  void read_header() {
    phase_ = Phase::kReading;
    set_deadline(all_->options().header_time);
    parser_.emplace();
    head_only_ = false;
    parser_->header_limit(static_cast<uint32_t>(all_->options().header_bytes));
    parser_->body_limit(all_->options().body_bytes);
    http::async_read_header(stream_, buffer_, *parser_, [self = self()](error_code error, size_t) { self->take_header(error); });
  }

  void take_header(error_code error) {
    if (phase_ == Phase::kClosed) return;
    if (error) return refuse_malformed(error);
    const auto& message = parser_->get();
    head_only_ = message.method() == http::verb::head;
    if (static_cast<size_t>(std::distance(message.begin(), message.end())) > all_->options().header_fields) {
      return refuse(all_->handler().malformed(431, fmt::format("more than {} header fields", all_->options().header_fields)));
    }
    if (!take_head(message)) return refuse(all_->handler().malformed(400, "the request's target is not a path"));
    if (const auto refusal = all_->handler().refuse(request_)) {
      // Without a body the connection is as good as before.
      if (parser_->is_done()) return answer_refusal(*refusal);
      return refuse(*refusal);
    }
    if (parser_->is_done()) return run();
    set_deadline(all_->options().body_time);
    if (beast::iequals(message[http::field::expect], "100-continue")) return invite_body();
    read_body();
  }

  bool take_head(const http::request<ArrivingBody>& message) {
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
    http::async_read_some(stream_, buffer_, *parser_, [self = self()](error_code error, size_t) {
      if (self->phase_ == Phase::kClosed) return;
      if (error) return self->refuse_malformed(error);
      if (!self->reserve_body()) return self->refuse(self->all_->handler().malformed(503, "too many requests are being read"));
      if (self->parser_->is_done()) return self->run();
      self->read_body();
    });
  }

  // For what the body takes now: what a client announces costs nothing.
  bool reserve_body() {
    const size_t bytes = parser_->get().body().capacity();
    if (bytes <= reserved_) return true;
    if (!all_->reserve_body(bytes - reserved_)) return false;
    reserved_ = bytes;
    return true;
  }

  void refuse_malformed(error_code error) {
    if (error == http::error::header_limit) return refuse(all_->handler().malformed(431, "the header is too large"));
    if (error == http::error::body_limit) {
      return refuse(all_->handler().malformed(413, fmt::format("the body is larger than {} bytes", all_->options().body_bytes)));
    }
    const bool of_protocol = error.category() == make_error_code(http::error::bad_version).category();
    if (!of_protocol || error == http::error::end_of_stream || error == http::error::partial_message) return abort();
    refuse(all_->handler().malformed(400, fmt::format("not an HTTP request: {}", error.message())));
  }

  void run() {
    clear_deadline();
    phase_ = Phase::kAnswering;
    keep_alive_ = parser_->get().keep_alive();
    http_1_1_ = parser_->get().version() >= 11;
    request_.body = std::move(parser_->get().body());
    parser_.reset();
    const auto answer = std::make_shared<HttpAnswer>(all_, self(), head_only_);
    answer_ = answer;
    if (!reading_ && buffer_.size() == 0) read_bytes();
    if (request_.body.empty()) return all_->handler().handle(std::move(request_), answer);
    asio::post(all_->workers(), [handler = &all_->handler(), request = std::move(request_), answer]() mutable {
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

  template <typename Message>
  void set_head(Message& message, HttpResponse& response) {
    if (all_->draining()) keep_alive_ = false;
    message.result(response.status);
    if (!response.content_type.empty()) message.set(http::field::content_type, response.content_type);
    for (const auto& [name, value] : response.fields) message.set(name, value);
    message.keep_alive(keep_alive_);
  }

  void write_chunk(const std::shared_ptr<HttpAnswer>& answer, std::shared_ptr<std::string> text) {
    writing_ = true;
    silent_ = false;
    set_deadline(all_->options().write_time);
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
    set_deadline(all_->options().write_time);
    asio::async_write(stream_, http::make_chunk_last(), [self = self()](error_code error, size_t) {
      if (error) return self->abort();
      self->answer_done();
    });
  }

  // A proxy in between ends a connection on which nothing happens.
  void wait_to_ping(const std::shared_ptr<HttpAnswer>& answer) {
    if (!is_events_) return;
    silent_ = true;
    ping_.expires_after(all_->options().ping_time);
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
    if (keep_alive_ && !all_->draining()) return wait_for_request(all_->options().idle_time);
    linger();
  }

  // A socket that is closed while bytes of the client wait in it sends a reset, which may overtake the answer.
  void linger() {
    phase_ = Phase::kLingering;
    set_deadline(kLingerTime);
    error_code ignored;
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      // What is being read is let go; then the end is told to the client, who can tell it from an answer that was cut off.
      if (reading_) socket().cancel(ignored);
      else shut_tls();
    } else {
      socket().shutdown(Tcp::socket::shutdown_send, ignored);
      if (!reading_) discard();
    }
  }
  void shut_tls() {
    if constexpr (std::is_same_v<Stream, TlsStream>) stream_.async_shutdown([self = self()](error_code) { self->abort(); });
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

  void release_body() { all_->release_body(std::exchange(reserved_, 0)); }

  const std::shared_ptr<HttpConnections> all_;
  Stream stream_;
  asio::steady_timer deadline_, ping_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<ArrivingBody>> parser_;
  HttpRequest request_;
  Phase phase_ = Phase::kIdle;
  std::weak_ptr<HttpAnswer> answer_;
  size_t reserved_ = 0;   // bytes of HttpConnections::reserve_body()
  bool reading_ = false;  // read_bytes() or discard() is under way
  bool writing_ = false, streaming_ = false, silent_ = false;
  bool head_only_ = false, keep_alive_ = false, http_1_1_ = true, is_events_ = false;
};

}  // namespace

std::shared_ptr<HttpConnection> make_session(std::shared_ptr<HttpConnections> connections, Tcp::socket socket,
                                             asio::ssl::context* tls) {
  if (tls == nullptr) return std::make_shared<Session<Tcp::socket>>(std::move(connections), std::move(socket));
  return std::make_shared<Session<TlsStream>>(std::move(connections), TlsStream(std::move(socket), *tls));
}

}  // namespace tritllm::server
