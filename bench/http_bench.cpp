// Measures the HTTP layer alone: how many events of chats a server can send to its clients, and how late they come, where a stub
// takes the model's place. Server, stub and clients share the machine.
//
//   http_bench [STREAMS] [EVENTS_PER_SECOND] [SECONDS]        64, 0 (as many as it can), 5
#include <arpa/inet.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/json.h"
#include "server/http_server.h"
#include "server/openai_writer.h"

namespace {

using namespace tritllm;
using namespace tritllm::server;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kSent = "\"sent\":";

int64_t nanoseconds() { return Clock::now().time_since_epoch().count(); }

double processor_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

// As /v1/chat/completions writes it, and when.
std::string chat_event(size_t stream) {
  return event_text(
      {{"id", fmt::format("chatcmpl-{:032x}", stream)},
       {"object", "chat.completion.chunk"},
       {"created", 1'790'000'000},
       {"model", "stub"},
       {"choices", {{{"index", 0}, {"delta", {{"content", " token"}}}, {"logprobs", nullptr}, {"finish_reason", nullptr}}}},
       {"sent", nanoseconds()}});
}

// A model that gives every stream a token in each step.
class Stub final : public HttpHandler {
 public:
  std::optional<HttpResponse> refuse(const HttpRequest&) override { return std::nullopt; }
  HttpResponse malformed(unsigned status, std::string_view problem) override {
    return {.status = status, .body = std::string(problem)};
  }
  void handle(HttpRequest, std::shared_ptr<Exchange> exchange) override {
    const auto stream = std::make_shared<Stream>();
    stream->exchange = std::move(exchange);
    stream->exchange->begin_stream({.content_type = "text/event-stream"});
    stream->exchange->watch([] {}, [stream] { stream->has_room = true; });
    const std::lock_guard lock(mutex_);
    streams_.push_back(stream);
  }

  size_t streams() {
    const std::lock_guard lock(mutex_);
    return streams_.size();
  }

  // Steps until the time is over; `rate` events a second over all streams, 0: without a pause. Returns the events that were sent.
  uint64_t run(double rate, std::chrono::seconds time) {
    uint64_t sent = 0;
    const auto begin = Clock::now();
    while (Clock::now() < begin + time) {
      for (size_t i = 0; i < streams_.size(); ++i) {
        Stream& stream = *streams_[i];
        if (!stream.has_room) continue;  // as the engine pauses a sequence
        stream.has_room = false;
        if (stream.exchange->send(chat_event(i))) stream.has_room = true;
        ++sent;
      }
      if (rate > 0) std::this_thread::sleep_until(begin + std::chrono::duration<double>(static_cast<double>(sent) / rate));
    }
    for (const auto& stream : streams_) stream->exchange->end_stream();
    return sent;
  }

 private:
  struct Stream {
    std::shared_ptr<Exchange> exchange;
    std::atomic<bool> has_room{true};
  };
  std::mutex mutex_;
  std::vector<std::shared_ptr<Stream>> streams_;
};

int connected(uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::send(socket, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    fmt::print(stderr, "http_bench: cannot connect\n");
    std::exit(1);
  }
  return socket;
}

// Reads all streams to their ends. The delay of each event, in nanoseconds.
std::vector<int64_t> read_events(uint16_t port, size_t streams) {
  std::vector<pollfd> sockets;
  std::vector<std::string> open(streams);  // what came of an event that is not complete
  for (size_t i = 0; i < streams; ++i) sockets.push_back({connected(port), POLLIN, 0});
  std::vector<int64_t> delays;
  std::string part(1 << 16, '\0');
  for (size_t left = streams; left > 0;) {
    ::poll(sockets.data(), sockets.size(), -1);
    for (size_t i = 0; i < streams; ++i) {
      if (sockets[i].fd < 0 || sockets[i].revents == 0) continue;
      const ssize_t got = ::recv(sockets[i].fd, part.data(), part.size(), 0);
      if (got <= 0) {
        ::close(sockets[i].fd);
        sockets[i].fd = -1;
        --left;
        continue;
      }
      const int64_t now = nanoseconds();
      open[i].append(part.data(), static_cast<size_t>(got));
      size_t read = 0;
      for (size_t end = 0; (end = open[i].find("\n\n", read)) != std::string::npos; read = end + 2) {
        const size_t at = open[i].find(kSent, read);
        int64_t sent = 0;
        if (at < end) std::from_chars(open[i].data() + at + kSent.size(), open[i].data() + end, sent);
        if (sent != 0) delays.push_back(now - sent);
      }
      open[i].erase(0, read);
    }
  }
  return delays;
}

}  // namespace

int main(int count, char** words) {
  const auto number = [&](int at, double usual) { return at < count ? std::atof(words[at]) : usual; };
  const auto streams = static_cast<size_t>(number(1, 64));
  const double rate = number(2, 0);
  const auto time = std::chrono::seconds(static_cast<int>(number(3, 5)));
  Stub stub;
  HttpOptions options;
  options.port = 0;
  HttpServer server(options, stub);
  server.start();
  std::vector<int64_t> delays;
  std::thread clients([&] { delays = read_events(server.port(), streams); });
  while (stub.streams() < streams) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const double processor = processor_seconds();
  const auto begin = Clock::now();
  const uint64_t sent = stub.run(rate, time);
  clients.join();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count(), used = processor_seconds() - processor;
  if (delays.size() != sent) {
    fmt::print(stderr, "http_bench: {} events were sent, {} came\n", sent, delays.size());
    return 1;
  }
  std::ranges::sort(delays);
  const auto at = [&](double share) {
    return 1e-6 * static_cast<double>(delays[static_cast<size_t>(share * static_cast<double>(sent - 1))]);
  };
  fmt::print(
      "{} streams: {:.0f} events/s, {:.1f} us of processor time each with clients and stub; delay {:.2f} ms in the median, {:.2f} "
      "at p99\n",
      streams, static_cast<double>(sent) / seconds, 1e6 * used / static_cast<double>(sent), at(0.5), at(0.99));
}
