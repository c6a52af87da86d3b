#include "engine/stop_matcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/utf8.h"

namespace tritllm {
namespace {

void require_usable(const std::string& stop) {
  if (stop.empty()) throw Error(ErrorCode::kUsage, "stop", "expected a text, found an empty string");
  if (stop.size() > kLongestStopString) {
    throw Error(ErrorCode::kUsage, "stop", fmt::format("expected at most {} bytes, found {}", kLongestStopString, stop.size()));
  }
  if (!is_valid_utf8(stop)) throw Error(ErrorCode::kUsage, "stop", fmt::format("'{}' is not valid UTF-8", printable(stop)));
}

}  // namespace

StopMatcher::Search::Search(std::string text) : stop(std::move(text)), shorter(stop.size() + 1) {
  size_t length = 0;
  for (size_t n = 1; n < stop.size(); ++n) {
    while (length > 0 && stop[n] != stop[length]) length = shorter[length];
    if (stop[n] == stop[length]) ++length;
    shorter[n + 1] = length;
  }
}

void StopMatcher::Search::advance(char byte) noexcept {
  while (matched > 0 && stop[matched] != byte) matched = shorter[matched];
  if (stop[matched] == byte) ++matched;
}

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  if (stops.size() > kMostStopStrings) {
    throw Error(ErrorCode::kUsage, "stop", fmt::format("expected at most {} strings, found {}", kMostStopStrings, stops.size()));
  }
  searches_.reserve(stops.size());
  for (std::string& stop : stops) {
    require_usable(stop);
    searches_.emplace_back(std::move(stop));
  }
}

std::string StopMatcher::push(std::string_view piece) {
  if (stopped()) return {};
  for (size_t at = 0; at < piece.size(); ++at) {
    advance(piece[at]);
    if (!stopped()) continue;
    held_ += piece.substr(0, at + 1);
    held_.resize(held_.size() - searches_[*matched_].stop.size());
    return std::exchange(held_, {});
  }
  held_ += piece;
  const size_t certain = held_.size() - held_length();
  std::string text = held_.substr(0, certain);
  held_.erase(0, certain);
  return text;
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

void StopMatcher::advance(char byte) noexcept {
  for (size_t i = 0; i < searches_.size(); ++i) {
    searches_[i].advance(byte);
    if (!searches_[i].complete()) continue;
    if (!matched_ || searches_[i].stop.size() > searches_[*matched_].stop.size()) matched_ = i;
  }
}

size_t StopMatcher::held_length() const noexcept {
  size_t longest = 0;
  for (const Search& search : searches_) longest = std::max(longest, search.matched);
  return longest;
}

}  // namespace tritllm
