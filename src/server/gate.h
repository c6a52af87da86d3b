// Owns who may ask: the names under which this server may be addressed, the pages that may call it, and API keys. Does not own what
// is answered.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http.h"

namespace tritllm::server {

struct GateOptions {
  std::vector<std::string> hosts;    // besides IP addresses and localhost, e.g. "models.example.org"
  std::vector<std::string> origins;  // pages of other sites, e.g. "https://chat.example.org"
  std::filesystem::path key_file;    // empty: no key is asked for
};

// One line of the file of keys: KEY [name=TEXT] [requests_per_minute=N] [concurrent=N].
struct ApiKey {
  std::string key, name;
  uint32_t requests_per_minute = 0, concurrent = 0;  // 0: no limit
  // What is used of them now.
  std::atomic<uint32_t> open{0};
  std::mutex mutex;
  double allowance = 0;  // requests that may come now; fills by requests_per_minute
  std::chrono::steady_clock::time_point filled{};
};

class Gate {
 public:
  // Throws an Error that names the file and line of a key that cannot be read.
  explicit Gate(const GateOptions& options);

  // Throws an ApiError where a browser was led here under a foreign name (DNS rebinding), or by a page of another site.
  void check_source(const HttpRequest& request) const;
  bool asks_for_key() const noexcept { return !keys_.empty(); }
  // The key of the request; null where none is asked for. Throws an ApiError of 401 without saying which part was wrong.
  std::shared_ptr<ApiKey> check_key(const HttpRequest& request) const;
  // Counts a request on the key's limits until the lease is dropped. Throws an ApiError of 429.
  static std::shared_ptr<void> admit(std::shared_ptr<ApiKey> key);

  // The fields that let a page of an allowed other site read the answer; none for other requests.
  HttpFields cross_origin_fields(const HttpRequest& request) const;

 private:
  bool is_own_name(std::string_view host) const;
  bool is_allowed_origin(const HttpRequest& request, std::string_view origin) const;

  GateOptions options_;
  std::vector<std::shared_ptr<ApiKey>> keys_;
};

}  // namespace tritllm::server
