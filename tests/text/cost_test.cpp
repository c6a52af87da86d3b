// A tokenizer.json is hostile input: whatever it says, a text costs a second per MiB at most, and no step multiplies it without
// end.
#include <gtest/gtest.h>
#include <time.h>

#include "core/error.h"
#include "text/tokenizer_json.h"

namespace tritllm {
namespace {

// As in text_budget.cpp, with room for what is not measured: parsing, the last attempt of a pattern, merging.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kSecondsPerMib = 20;
#else
constexpr double kSecondsPerMib = 2;
#endif
constexpr double kSecondsForAny = 1.5;

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

std::string repeated(std::string_view part, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += part;
  return text;
}

// What the tokenizer says of a text: the error's message, or nothing. Checks the time.
std::string cost_of(const Json& document, const std::string& text, std::vector<TextSpan> literal = {}) {
  const Tokenizer tokenizer = tokenizer_of(document);
  const double start = processor_seconds();
  std::string problem;
  try {
    const auto ids = tokenizer.encode(text, {.literal = literal});
    EXPECT_LE(ids.size(), 64 * text.size() + 65536);
    EXPECT_LE(tokenizer.decode(ids, false).size(), 64 * text.size() + 65536);
  } catch (const Error& error) {
    problem = error.what();
  }
  EXPECT_LT(processor_seconds() - start, kSecondsForAny + kSecondsPerMib * static_cast<double>(text.size()) / (1 << 20)) << problem;
  return problem;
}

std::vector<Json> times(size_t count, const Json& step) { return std::vector<Json>(count, step); }

Json with_normalizer(const std::vector<Json>& steps) {
  Json document = tokenizer_document();
  document["normalizer"] = sequence("normalizers", steps);
  return document;
}

Json with_pre_tokenizer(const std::vector<Json>& steps) {
  Json document = tokenizer_document();
  document["pre_tokenizer"] = sequence("pretokenizers", steps);
  return document;
}

Json regex(std::string_view pattern) { return {{"Regex", pattern}}; }

Json regex_replace(std::string_view pattern, std::string_view content) {
  return part("Replace", {{"pattern", regex(pattern)}, {"content", content}});
}

TEST(Cost, NormalizersCannotMultiplyATextWithoutEnd) {
  const Json doubling = replace("a", "aa");
  EXPECT_EQ(cost_of(with_normalizer(times(3, doubling)), "a a"), "");
  for (const size_t count : {size_t{20}, size_t{40}, size_t{64}}) {
    const std::string problem = cost_of(with_normalizer(times(count, doubling)), "a a");
    EXPECT_NE(problem.find("/normalizer/normalizers/"), std::string::npos) << problem;
    EXPECT_NE(problem.find("the limit is 64 for each byte"), std::string::npos) << problem;
  }
  for (const Json& step : {replace("a", repeated("ab", 1 << 20)), regex_replace("", "a"),
                           part("Prepend", {{"prepend", repeated("a", 1 << 20)}}), regex_replace("(?=a)", "aa")}) {
    EXPECT_NE(cost_of(with_normalizer(times(40, step)), repeated("a ", 1000)), "") << step.dump().substr(0, 80);
  }
  EXPECT_EQ(cost_of(with_normalizer({part("NFKD"), part("NFC"), part("NFKC")}), repeated("\ufdfa", 1 << 16)), "");
}

TEST(Cost, PreTokenizersCannotMultiplyATextWithoutEnd) {
  const Json bytes = part("ByteLevel", {{"add_prefix_space", true}, {"use_regex", false}});
  const Json metaspace = part("Metaspace", {{"replacement", "\u2581"}, {"prepend_scheme", "always"}, {"split", true}});
  for (const Json& step : {bytes, metaspace}) {
    EXPECT_EQ(cost_of(with_pre_tokenizer({step}), repeated("a b", 1 << 16)), "");
    cost_of(with_pre_tokenizer(times(21, step)), repeated("\u00e9 ", 1 << 16));
  }
  const std::string problem = cost_of(with_pre_tokenizer(times(21, bytes)), repeated("\u00e9 ", 1 << 16));
  EXPECT_NE(problem.find("/pre_tokenizer/pretokenizers/"), std::string::npos) << problem;
}

TEST(Cost, DecodersCannotMultiplyATokenWithoutEnd) {
  for (const bool fuses : {false, true}) {
    std::vector<Json> steps = times(40, replace("a", "aa"));
    if (fuses) steps.insert(steps.begin(), part("Fuse"));
    Json document = tokenizer_document();
    document["decoder"] = sequence("decoders", steps);
    const std::string problem = cost_of(document, "a a");
    EXPECT_NE(problem.find("/decoder/decoders/"), std::string::npos) << problem;
  }
  Json document = tokenizer_document();
  document["decoder"] = sequence("decoders", {part("Fuse"), regex_replace("(a|aa){1,17}[bc]", "")});
  EXPECT_NE(cost_of(document, repeated("a", 20'000)), "");
}

// The work is limited for a text and not for a match: many matches that are each within a limit are too many all the same.
TEST(Cost, PatternsAreBoundedForATextAndNotForAMatch) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"(a|aa){1,17}[bc]", "a"},    {"(a|aa)+$b", "a"},    {"a+[bc]", "a"},
      {"a*a*a*[bc]", "a"},          {"(?:a++a?)*c", "a"},  {"a*(?=a*b)c", "a"},
      {"(?:a{0,100}){0,90}c", "a"}, {"(?<=a)[^b]*c", "a"}, {"\\s*\\s+x", " "},
      {"(?:\\s|\\s\\s)*x", " "},    {"[^x]*x", "\u6587"},  {"(?:.*,)*x", "a,"},
  };
  for (const auto& [pattern, letter] : cases) {
    cost_of(with_pre_tokenizer({split(pattern)}), repeated(letter, 1 << 18));
    cost_of(with_normalizer({regex_replace(pattern, "")}), repeated(letter, 20'000));
  }
  const std::string problem = cost_of(with_normalizer({regex_replace("(a|aa){1,17}[bc]", "")}), repeated("a", 20'000));
  EXPECT_NE(problem.find("/normalizer"), std::string::npos);
  EXPECT_NE(problem.find("more than a second per MiB for a text of 20000 bytes"), std::string::npos) << problem;
}

// Long runs are legal where one walk over them suffices.
TEST(Cost, PublishedPatternsTakeLongRunsInLinearTime) {
  constexpr std::string_view kLlama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const Json document = with_pre_tokenizer({split(kLlama3), part("ByteLevel", {{"add_prefix_space", false}, {"use_regex", true}})});
  for (const std::string_view unit : {" ", "a", "7", "!", "\n", " \n", "\u00e9", "\u6587", "it's ", "a \n\n", "\u3000"}) {
    EXPECT_EQ(cost_of(document, repeated(unit, 1 << 20)), "") << unit;
  }
}

TEST(Cost, ManyAddedTokensAtEachPlaceAreBounded) {
  Json document = tokenizer_document();
  document["added_tokens"] = Json::array();
  for (size_t length = 1; length <= 1000; ++length) {
    document["added_tokens"].push_back(added_token(static_cast<unsigned>(35 + length), "<" + std::string(length, 'a')));
  }
  const std::string text = repeated("<" + std::string(999, 'a'), 1 << 20);
  EXPECT_EQ(cost_of(document, text), "");
  cost_of(document, text, {{0, text.size()}});
  Json many = tokenizer_document();
  many["added_tokens"] = Json::array();
  for (size_t length = 1; length <= 1000; ++length) {
    many["added_tokens"].push_back(added_token(static_cast<unsigned>(35 + length), std::string(length, '!')));
  }
  const std::string marks(1 << 20, '!');
  cost_of(many, marks, {{0, marks.size()}});
}

}  // namespace
}  // namespace tritllm
