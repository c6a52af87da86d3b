// Owns the search for stop strings in a text that arrives in pieces: what it hands on is never part of a stop string, and never
// late by more than a stop string's length. Does not own stop tokens, nor the bytes of a cut UTF-8 character.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tritllm {

// Each byte of text is compared with every stop, and the longest stop bounds what is held back.
inline constexpr size_t kMostStopStrings = 256;
inline constexpr size_t kLongestStopString = 4096;

class StopMatcher {
 public:
  // Refuses an empty stop, one that is not UTF-8, one longer than kLongestStopString bytes, and more than kMostStopStrings.
  explicit StopMatcher(std::vector<std::string> stops);

  // Takes the next piece of text and returns what certainly belongs to no stop: everything before the longest end of the text
  // that some stop begins with. The stop that is complete first wins, of several that end at one byte the longest; so the
  // outcome does not depend on how the text was cut. Nothing of the stop or after it is ever returned.
  std::string push(std::string_view piece);

  // The text that was held back, at the end of the input.
  std::string finish();

  bool stopped() const noexcept { return matched_.has_value(); }
  // Index of the stop that was met.
  std::optional<size_t> matched() const noexcept { return matched_; }

 private:
  // One stop with the state of its search (Knuth, Morris and Pratt).
  struct Search {
    std::string stop;
    std::vector<size_t> shorter;  // [n]: the longest proper end of the first n bytes that the stop begins with
    size_t matched = 0;           // bytes of the stop that the text ends with

    explicit Search(std::string text);
    void advance(char byte) noexcept;
    bool complete() const noexcept { return matched == stop.size(); }
  };

  void advance(char byte) noexcept;
  size_t held_length() const noexcept;

  std::vector<Search> searches_;
  std::string held_;
  std::optional<size_t> matched_;
};

}  // namespace tritllm
