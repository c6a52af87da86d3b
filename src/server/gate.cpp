#include "server/gate.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "server/api_error.h"

namespace tritllm::server {
namespace {

constexpr uint64_t kMostKeyBytes = 1 << 20;
constexpr size_t kShortestKey = 16;

// "localhost" of "localhost:8080", "::1" of "[::1]:8080".
std::string name_of_host(std::string_view host) {
  if (host.starts_with('[')) return std::string(host.substr(1, std::min(host.find(']'), host.size()) - 1));
  return std::string(host.substr(0, host.find(':')));
}

bool is_address(const std::string& name) {
  unsigned char room[sizeof(in6_addr)];
  return ::inet_pton(AF_INET, name.c_str(), room) == 1 || ::inet_pton(AF_INET6, name.c_str(), room) == 1;
}

bool same_letters(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::shared_ptr<ApiKey> parse_key(const std::string& line, const std::string& where) {
  std::istringstream words(line);
  auto key = std::make_shared<ApiKey>();
  words >> key->key;
  if (key->key.size() < kShortestKey) {
    throw Error(ErrorCode::kBadInput, where, fmt::format("a key has at least {} characters", kShortestKey),
                "openssl rand -hex 24 makes one");
  }
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals), value = equals == word.npos ? "" : word.substr(equals + 1);
    if (name == "name") {
      key->name = value;
      continue;
    }
    uint32_t unknown = 0;
    uint32_t& number = name == "requests_per_minute" ? key->requests_per_minute : name == "concurrent" ? key->concurrent : unknown;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (&number != &unknown && error == std::errc() && end == value.data() + value.size() && number > 0) continue;
    throw Error(ErrorCode::kBadInput, where, "expected KEY [name=TEXT] [requests_per_minute=N] [concurrent=N]");
  }
  key->allowance = key->requests_per_minute;
  return key;
}

std::vector<std::shared_ptr<ApiKey>> read_keys(const std::filesystem::path& path) {
  std::vector<std::shared_ptr<ApiKey>> keys;
  if (path.empty()) return keys;
  std::istringstream lines(read_text_file(path, kMostKeyBytes));
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    const size_t first = line.find_first_not_of(" \t\r");
    if (first == line.npos || line[first] == '#') continue;
    keys.push_back(parse_key(line, fmt::format("{}: line {}", path.string(), number)));
  }
  if (keys.empty()) throw Error(ErrorCode::kBadInput, path.string(), "holds no key", "write one key a line");
  return keys;
}

// Its time depends on the lengths alone.
bool same_key(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

Gate::Gate(const GateOptions& options) : options_(options), keys_(read_keys(options.key_file)) {}

bool Gate::is_own_name(std::string_view host) const {
  const std::string name = name_of_host(host);
  if (is_address(name) || same_letters(name, "localhost")) return true;
  return std::ranges::any_of(options_.hosts,
                             [&](const std::string& own) { return same_letters(own, name) || same_letters(own, host); });
}

bool Gate::is_allowed_origin(const HttpRequest& request, std::string_view origin) const {
  if (std::ranges::find(options_.origins, origin) != options_.origins.end()) return true;
  const size_t scheme = origin.find("://");
  return scheme != origin.npos && same_letters(origin.substr(scheme + 3), request.field("host").value_or(""));
}

void Gate::check_source(const HttpRequest& request) const {
  const auto host = request.field("host");
  if (!host || !is_own_name(*host)) {
    throw ApiError(403,
                   fmt::format("this server is not known as '{}'; its operator can allow the name (docs/server.md)",
                               host ? printable(*host, 80) : ""),
                   "Host", "unknown_host");
  }
  const auto origin = request.field("origin");
  if (origin && !is_allowed_origin(request, *origin)) {
    throw ApiError(403,
                   fmt::format("pages of {} may not call this server; its operator can allow that origin (docs/server.md)",
                               printable(*origin, 80)),
                   "Origin", "unknown_origin");
  }
}

std::shared_ptr<ApiKey> Gate::check_key(const HttpRequest& request) const {
  if (keys_.empty()) return nullptr;
  std::string_view given = request.field("authorization").value_or("");
  constexpr std::string_view kScheme = "bearer ";
  given = same_letters(given.substr(0, kScheme.size()), kScheme) ? given.substr(kScheme.size()) : std::string_view();
  std::shared_ptr<ApiKey> found;
  for (const auto& key : keys_) {
    if (same_key(key->key, given)) found = key;
  }
  if (!found) throw ApiError(401, "an API key is needed: Authorization: Bearer KEY", "Authorization", "invalid_api_key");
  return found;
}

std::shared_ptr<void> Gate::admit(std::shared_ptr<ApiKey> key) {
  if (!key) return nullptr;
  if (key->requests_per_minute > 0) {
    const std::lock_guard lock(key->mutex);
    const auto now = std::chrono::steady_clock::now();
    const double minutes = std::chrono::duration<double, std::ratio<60>>(now - key->filled).count(),
                 most = key->requests_per_minute;
    key->allowance = std::min(most, key->allowance + minutes * most);
    key->filled = now;
    if (key->allowance < 1) throw ApiError(429, fmt::format("this key has {} requests a minute", most), "", "rate_limit_exceeded");
    key->allowance -= 1;
  }
  if (++key->open > key->concurrent && key->concurrent > 0) {
    --key->open;
    throw ApiError(429, fmt::format("this key has {} requests at a time", key->concurrent), "", "rate_limit_exceeded");
  }
  ApiKey* const counted = key.get();
  return {counted, [key = std::move(key)](void*) { --key->open; }};
}

HttpFields Gate::cross_origin_fields(const HttpRequest& request) const {
  const auto origin = request.field("origin");
  if (!origin || std::ranges::find(options_.origins, *origin) == options_.origins.end()) return {};
  return {{"Access-Control-Allow-Origin", std::string(*origin)},
          {"Access-Control-Allow-Methods", "GET, POST"},
          // An allowed origin may send any header: OpenAI's JavaScript client adds its own.
          {"Access-Control-Allow-Headers",
           std::string(request.field("access-control-request-headers").value_or("Authorization, Content-Type"))},
          {"Vary", "Origin"}};
}

}  // namespace tritllm::server
