#include "server/http_server.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "core/error.h"
#include "server/http_connections.h"
#include "server/http_session.h"

namespace tritllm::server {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Tcp = asio::ip::tcp;

constexpr std::chrono::milliseconds kRetryAccept{100};

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

}  // namespace

// The listener, and the network's thread.
class HttpServer::Listener {
 public:
  Listener(const HttpOptions& options, HttpHandler& handler)
      : connections_(std::make_shared<HttpConnections>(options, handler)),
        acceptor_(listener(connections_->context(), options)),
        retry_(connections_->context()) {
    if (!options.certificate.empty()) tls_.emplace(tls_context(options));
    port_ = acceptor_.local_endpoint().port();
  }

  ~Listener() {
    connections_->workers().stop();
    connections_->workers().join();
    asio::post(connections_->context(), [this] {
      stop_accepting();
      connections_->abort_all();
    });
    if (thread_.joinable()) thread_.join();
    else connections_->context().run();
  }

  void start() {
    accept();
    thread_ = std::thread([this] { connections_->context().run(); });
  }

  bool drain(std::chrono::milliseconds time) {
    asio::post(connections_->context(), [this] {
      stop_accepting();
      connections_->begin_drain();
    });
    return connections_->wait_until_drained(time);
  }

  uint16_t port() const noexcept { return port_; }
  const HttpConnections& connections() const noexcept { return *connections_; }

 private:
  void stop_accepting() {
    error_code ignored;
    acceptor_.close(ignored);
    retry_.cancel();
  }

  void accept() {
    acceptor_.async_accept([this](error_code error, Tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (error) return accept_later();
      if (connections_->size() < connections_->options().connections) {
        error_code ignored;
        socket.set_option(Tcp::no_delay(true), ignored);
        make_session(connections_, std::move(socket), tls_ ? &*tls_ : nullptr)->begin();
      }
      accept();
    });
  }

  // Out of descriptors, most likely: connections that end give some back.
  void accept_later() {
    retry_.expires_after(kRetryAccept);
    retry_.async_wait([this](error_code stopped) {
      if (!stopped) accept();
    });
  }

  const std::shared_ptr<HttpConnections> connections_;
  Tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  std::optional<asio::ssl::context> tls_;
  uint16_t port_ = 0;
  std::thread thread_;
};

HttpServer::HttpServer(const HttpOptions& options, HttpHandler& handler)
    : listener_(std::make_unique<Listener>(options, handler)) {}
HttpServer::~HttpServer() = default;
void HttpServer::start() { listener_->start(); }
uint16_t HttpServer::port() const noexcept { return listener_->port(); }
size_t HttpServer::connections() const noexcept { return listener_->connections().connections(); }
size_t HttpServer::exchanges() const noexcept { return listener_->connections().exchanges(); }
bool HttpServer::drain(std::chrono::milliseconds time) { return listener_->drain(time); }

}  // namespace tritllm::server
