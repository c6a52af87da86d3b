// Owns the cases of engine/stop_matcher.h, against a naive search of the whole text, however it is cut.
#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <random>

#include "core/error.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

using Stops = std::vector<std::string>;

struct Outcome {
  std::string text;
  std::optional<size_t> matched;

  bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& stream, const Outcome& outcome) {
  return stream << '"' << outcome.text << "\" " << (outcome.matched ? static_cast<int>(*outcome.matched) : -1);
}

Outcome naive_search(const std::string& text, const Stops& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string read = text.substr(0, end);
    std::optional<size_t> longest;
    for (size_t i = 0; i < stops.size(); ++i) {
      if (read.ends_with(stops[i]) && (!longest || stops[i].size() > stops[*longest].size())) longest = i;
    }
    if (longest) return {read.substr(0, end - stops[*longest].size()), longest};
  }
  return {text, std::nullopt};
}

// What may be shown of a text without a stop: all but the longest end that a stop begins with.
size_t certain_length(const std::string& text, const Stops& stops) {
  for (size_t start = 0; start < text.size(); ++start) {
    for (const std::string& stop : stops) {
      if (stop.starts_with(text.substr(start))) return start;
    }
  }
  return text.size();
}

// Bit i of `cuts` cuts after byte i. Checks after each piece that neither too much nor too little was returned.
Outcome feed(const std::string& text, const Stops& stops, unsigned cuts) {
  StopMatcher matcher(stops);
  std::string shown;
  size_t start = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool ends = i + 1 == text.size() || ((cuts >> i) & 1u) != 0;
    if (!ends) continue;
    shown += matcher.push(text.substr(start, i + 1 - start));
    start = i + 1;
    if (!matcher.stopped()) {
      EXPECT_EQ(shown, text.substr(0, certain_length(text.substr(0, start), stops)));
    }
  }
  shown += matcher.finish();
  return {shown, matcher.matched()};
}

std::string random_text(std::mt19937_64& generator, size_t length) {
  std::string text(length, 'a');
  for (char& letter : text) letter = static_cast<char>('a' + generator() % 2);
  return text;
}

TEST(StopMatcher, EveryCutOfEveryTextGivesWhatANaiveSearchGives) {
  std::mt19937_64 generator(61);
  size_t with_stop = 0;
  constexpr int kRounds = 300;
  for (int round = 0; round < kRounds; ++round) {
    Stops stops(generator() % 4);
    for (std::string& stop : stops) stop = random_text(generator, 2 + generator() % 5);
    const std::string text = random_text(generator, 1 + generator() % 9);
    const Outcome expected = naive_search(text, stops);
    with_stop += expected.matched.has_value();
    for (unsigned cuts = 0; cuts < 1u << (text.size() - 1); ++cuts) {
      ASSERT_EQ(feed(text, stops, cuts), expected)
          << "text " << text << ", cuts " << cuts << ", stops " << testing::PrintToString(stops);
    }
  }
  EXPECT_GT(with_stop, kRounds / 5) << "the cases must hit both outcomes";
  EXPECT_LT(with_stop, kRounds * 4 / 5);
}

TEST(StopMatcher, LongTextsAgreeToo) {
  std::mt19937_64 generator(62);
  for (int round = 0; round < 200; ++round) {
    Stops stops(1 + generator() % 3);
    for (std::string& stop : stops) stop = random_text(generator, 8 + generator() % 6);
    const std::string text = random_text(generator, 400);
    StopMatcher matcher(stops);
    std::string shown;
    for (size_t start = 0; start < text.size();) {
      const size_t length = 1 + generator() % 7;
      shown += matcher.push(std::string_view(text).substr(start, length));
      start += length;
    }
    shown += matcher.finish();
    ASSERT_EQ((Outcome{shown, matcher.matched()}), naive_search(text, stops));
  }
}

TEST(StopMatcher, TheFirstCompleteStopWinsAndOfThoseTheLongest) {
  EXPECT_EQ(feed("xabcd", {"abcd", "bc"}, 0), (Outcome{"xa", 1}));
  EXPECT_EQ(feed("xabc", {"c", "abc", "bc"}, 0), (Outcome{"x", 1}));
  EXPECT_EQ(feed("ab", {"ab", "ab"}, 0), (Outcome{"", 0}));
}

TEST(StopMatcher, NothingOfTheStopOrAfterItIsReturned) {
  StopMatcher matcher({"</s>"});
  EXPECT_EQ(matcher.push("Hello <"), "Hello ");
  EXPECT_EQ(matcher.push("/"), "");
  EXPECT_EQ(matcher.push("s> and more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.matched(), 0u);
  EXPECT_EQ(matcher.push("even more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, HeldTextComesAtTheEndOrWhenItTurnsOutHarmless) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.push("a\n\nUse"), "a");
  EXPECT_EQ(matcher.push("ful"), "\n\nUseful");
  EXPECT_EQ(matcher.push("\n\n"), "");
  EXPECT_EQ(matcher.finish(), "\n\n");
  EXPECT_EQ(matcher.finish(), "");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, WithoutStopsNothingIsHeld) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("abc"), "abc");
  EXPECT_EQ(matcher.push(""), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, CharactersOfSeveralBytesAreHeldWhole) {
  StopMatcher matcher({"”"});
  EXPECT_EQ(matcher.push("é\xe2\x80"), "é");
  EXPECT_EQ(matcher.push("\x9c!"), "“!");
}

TEST(StopMatcher, TheWorstTextTakesLinearTime) {
  const std::string stop = std::string(kLongestStopString - 1, 'a') + "b";
  const std::string piece(64, 'a');
  StopMatcher matcher({stop});
  const std::clock_t start = std::clock();
  size_t shown = 0;
  constexpr size_t kBytes = size_t{1} << 22;
  for (size_t fed = 0; fed < kBytes; fed += piece.size()) shown += matcher.push(piece).size();
  EXPECT_EQ(shown, kBytes - (kLongestStopString - 1));
  EXPECT_EQ(matcher.push("b"), "");
  EXPECT_TRUE(matcher.stopped());
  // Comparing the stop at each byte anew takes 2^34 steps; this takes about 2^23.
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 2.0);
}

TEST(StopMatcher, RefusesUnusableStops) {
  expect_error(ErrorCode::kUsage, "stop: expected a text, found an empty string", [] { StopMatcher({"a", ""}); });
  expect_error(ErrorCode::kUsage, "not valid UTF-8", [] { StopMatcher({"a\xff"}); });
  expect_error(ErrorCode::kUsage, "stop: expected at most 4096 bytes, found 4097", [] { StopMatcher({std::string(4097, 'a')}); });
  expect_error(ErrorCode::kUsage, "stop: expected at most 256 strings, found 257", [] { StopMatcher(Stops(257, "a")); });
  EXPECT_NO_THROW(StopMatcher(Stops(256, std::string(4096, 'a'))));
}

}  // namespace
}  // namespace tritllm
