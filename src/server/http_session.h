// Owns one connection: HTTP/1.1 with or without TLS, its limits of size and time, and the request that it answers now. Does not own
// listening (http_server.cpp) nor what waits to be written (http_answer.h).
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <memory>

#include "server/http_connections.h"

namespace tritllm::server {

// `tls`: null for plain text; outlives the connection. The connection lives by itself after begin(), until it is closed.
std::shared_ptr<HttpConnection> make_session(std::shared_ptr<HttpConnections> connections, boost::asio::ip::tcp::socket socket,
                                             boost::asio::ssl::context* tls);

}  // namespace tritllm::server
