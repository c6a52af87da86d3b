// The connections alone, with handlers that need no model.
#include "server/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

namespace tritllm::server {
namespace {

using namespace std::chrono_literals;

// A client's socket.
class Client {
 public:
  explicit Client(uint16_t port, int receive_buffer = 0) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ~Client() { ::close(socket_); }
  void send(const std::string& text) const {
    EXPECT_EQ(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  // What comes until the server closes, or until `end` has come.
  std::string receive(const std::string& end = "") const {
    std::string all;
    char part[65536];
    for (ssize_t got = 0; (end.empty() || all.find(end) == all.npos) && (got = ::recv(socket_, part, sizeof part, 0)) > 0;) {
      all.append(part, static_cast<size_t>(got));
    }
    return all;
  }

 private:
  int socket_;
};

// Streams so many events to everyone, and stops where the client is slow.
class StreamHandler final : public HttpHandler {
 public:
  explicit StreamHandler(size_t events) : events_(events) {}
  ~StreamHandler() override { join(); }
  std::optional<HttpResponse> refuse(const HttpRequest&) override { return std::nullopt; }
  HttpResponse malformed(unsigned status, std::string_view problem) override {
    return {.status = status, .body = std::string(problem)};
  }
  void handle(HttpRequest request, std::shared_ptr<Exchange> exchange) override {
    if (request.path == "/drop") return;
    if (request.path == "/whole") return exchange->respond({.body = "{}"});
    threads_.emplace_back([this, exchange] { stream(*exchange); });
  }
  void join() {
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  std::atomic<bool> left{false};
  std::atomic<size_t> pauses{0}, sent{0};

 private:
  void stream(Exchange& exchange) {
    std::atomic<bool> room{true};
    exchange.begin_stream({.content_type = "text/event-stream"});
    exchange.watch([&] { left = true; }, [&] { room = true; });
    for (size_t i = 0; i < events_ && !left; ++i, ++sent) {
      room = true;
      if (exchange.send("data: {\"number\": 123456789, \"text\": \"an event of usual size, as chats have them\"}\n\n")) continue;
      room = false;
      ++pauses;
      for (int waits = 0; !room && !left && waits < 2000; ++waits) std::this_thread::sleep_for(5ms);
    }
    exchange.end_stream();
  }

  size_t events_;
  std::vector<std::thread> threads_;
};

HttpOptions on_free_port() {
  HttpOptions options;
  options.port = 0;
  return options;
}

const std::string kGet = " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

TEST(HttpServer, StreamsEveryEventToAFastReader) {
  StreamHandler handler(20'000);
  HttpServer server(on_free_port(), handler);
  server.start();
  const Client client(server.port());
  client.send("GET /stream" + kGet);
  const std::string all = client.receive();
  EXPECT_TRUE(all.ends_with("0\r\n\r\n"));
  size_t events = 0;
  for (size_t at = all.find("data: "); at != all.npos; at = all.find("data: ", at + 1)) ++events;
  EXPECT_EQ(events, 20'000u);
}

TEST(HttpServer, PausesForASlowReaderAndLosesNothing) {
  StreamHandler handler(60'000);
  HttpServer server(on_free_port(), handler);
  server.start();
  const Client client(server.port(), 4096);
  client.send("GET /stream" + kGet);
  std::this_thread::sleep_for(300ms);
  EXPECT_GT(handler.pauses, 0u);
  EXPECT_LT(handler.sent, 60'000u);
  EXPECT_TRUE(client.receive().ends_with("0\r\n\r\n"));
  EXPECT_EQ(handler.sent, 60'000u);
}

TEST(HttpServer, TellsThatAClientLeft) {
  StreamHandler handler(100'000'000);
  HttpServer server(on_free_port(), handler);
  server.start();
  {
    const Client client(server.port());
    client.send("GET /stream" + kGet);
    static_cast<void>(client.receive("data: "));
  }
  for (int waits = 0; !handler.left && waits < 1000; ++waits) std::this_thread::sleep_for(5ms);
  EXPECT_TRUE(handler.left);
}

TEST(HttpServer, ADroppedExchangeIsAnError) {
  StreamHandler handler(1);
  HttpServer server(on_free_port(), handler);
  server.start();
  const Client client(server.port());
  client.send("GET /drop" + kGet);
  EXPECT_TRUE(client.receive().starts_with("HTTP/1.1 500"));
}

TEST(HttpServer, ClosesConnectionsThatSendTooSlowly) {
  StreamHandler handler(1);
  HttpOptions options = on_free_port();
  options.header_time = options.body_time = options.idle_time = 200ms;
  HttpServer server(options, handler);
  server.start();
  const Client silent(server.port()), header(server.port()), body(server.port()), idle(server.port());
  header.send("GET /wh");
  body.send("POST /whole HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{");
  idle.send("GET /whole HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(silent.receive(), "");
  EXPECT_EQ(header.receive(), "");
  EXPECT_EQ(body.receive(), "");
  EXPECT_TRUE(idle.receive().ends_with("{}"));
}

// What clients announce is not what they take.
TEST(HttpServer, BodiesCountWhenTheyArrive) {
  StreamHandler handler(1);
  HttpOptions options = on_free_port();
  options.bodies_bytes = 300'000;
  HttpServer server(options, handler);
  server.start();
  const auto head = [](size_t bytes) {
    return "POST /whole HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: " + std::to_string(bytes) + "\r\n\r\n";
  };
  const Client first(server.port()), second(server.port()), third(server.port()), large(server.port());
  first.send(head(150'000) + "x");
  second.send(head(150'000) + "x");
  third.send(head(1'000) + std::string(1'000, 'x'));
  EXPECT_TRUE(third.receive().ends_with("{}"));
  large.send(head(400'000) + std::string(300'000, 'x'));
  EXPECT_TRUE(large.receive().starts_with("HTTP/1.1 503"));
  second.send(std::string(149'999, 'x'));
  EXPECT_TRUE(second.receive().ends_with("{}"));
}

TEST(HttpServer, DrainsWhenTheLastAnswerIsComplete) {
  StreamHandler handler(20'000);
  HttpServer server(on_free_port(), handler);
  server.start();
  const Client client(server.port(), 4096), idle(server.port());
  client.send("GET /stream" + kGet);
  static_cast<void>(client.receive("data: "));
  EXPECT_FALSE(server.drain(50ms));
  std::thread reader([&] { EXPECT_TRUE(client.receive().ends_with("0\r\n\r\n")); });
  EXPECT_TRUE(server.drain(20s));
  reader.join();
  EXPECT_EQ(idle.receive(), "");
}

}  // namespace
}  // namespace tritllm::server
