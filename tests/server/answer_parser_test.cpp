// The parts of an answer do not depend on how its text was cut into pieces.
#include "server/answer_parser.h"

#include <gtest/gtest.h>

#include <random>

namespace tritllm::server {
namespace {

std::string shown(const std::vector<AnswerPart>& parts) {
  std::string text;
  AnswerPart::Kind last{};
  for (const AnswerPart& part : parts) {
    const bool goes_on = !text.empty() && part.kind == last && part.kind != AnswerPart::Kind::kToolCall;
    if (!goes_on)
      text += part.kind == AnswerPart::Kind::kContent     ? "|C:"
              : part.kind == AnswerPart::Kind::kReasoning ? "|R:"
                                                          : "|T:" + part.name;
    text += part.text;
    last = part.kind;
  }
  return text;
}

std::string parsed(const AnswerFormat& format, const std::vector<std::string>& pieces) {
  AnswerParser parser(format);
  std::vector<AnswerPart> all;
  for (const std::string& piece : pieces) {
    for (AnswerPart& part : parser.push(piece)) all.push_back(std::move(part));
  }
  for (AnswerPart& part : parser.finish()) all.push_back(std::move(part));
  return shown(all);
}

struct Case {
  AnswerFormat format;
  std::string text, expected;
};

std::vector<Case> cases() {
  const AnswerFormat plain, thinking{ToolFormat::kNone, true, false}, opened{ToolFormat::kNone, true, true},
      tagged{ToolFormat::kTagged, false, false}, bare{ToolFormat::kBareJson, false, false}, both{ToolFormat::kTagged, true, false};
  const std::string call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>";
  return {{plain, "a <think>b</think> <tool_call>", "|C:a <think>b</think> <tool_call>"},
          {thinking, "<think>\nwhy</think>\n\nbecause", "|R:why|C:because"},
          {thinking, "  plain < text", "|C:  plain < text"},
          {thinking, "<thin", "|C:<thin"},
          {thinking, "<think>cut off </thi", "|R:cut off </thi"},
          {opened, "why</think>because", "|R:why|C:because"},
          {tagged, call, "|T:f{\"a\":1}"},
          {tagged, "Sure. " + call + "\n" + call + " done", "|C:Sure. |T:f{\"a\":1}|T:f{\"a\":1}|C:done"},
          {tagged, "<tool_call>{\"name\": \"f\"}", "|T:f{}"},
          {tagged, "<tool_call>nonsense</tool_call>", "|C:<tool_call>nonsense</tool_call>"},
          {tagged, "1 <tool 2", "|C:1 <tool 2"},
          {bare, "{\"name\": \"g\", \"parameters\": {}}", "|T:g{}"},
          {bare, "{\"name\": 5}", "|C:{\"name\": 5}"},
          {bare, "No call", "|C:No call"},
          {both, "<think>hm</think>" + call, "|R:hm|T:f{\"a\":1}"},
          {both, "", ""}};
}

TEST(AnswerParser, CutsAnswersIntoParts) {
  for (const Case& one : cases()) EXPECT_EQ(parsed(one.format, {one.text}), one.expected) << one.text;
}

TEST(AnswerParser, DoesNotDependOnThePieces) {
  std::mt19937 random(1);
  for (const Case& one : cases()) {
    for (int trial = 0; trial < 30; ++trial) {
      std::vector<std::string> pieces;
      for (size_t at = 0; at < one.text.size();) {
        const size_t length = trial == 0 ? 1 : 1 + random() % 5;
        pieces.push_back(one.text.substr(at, length));
        at += length;
      }
      EXPECT_EQ(parsed(one.format, pieces), one.expected) << one.text;
    }
  }
}

TEST(AnswerParser, TellsWhichPiecesAreReasoning) {
  const auto count = [](bool opened, const std::vector<std::string>& pieces) {
    AnswerParser parser({ToolFormat::kNone, true, opened});
    size_t last = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      static_cast<void>(parser.push(pieces[i]));
      if (parser.read_reasoning()) last = i + 1;
    }
    return last;
  };
  EXPECT_EQ(count(false, {"<think>", "a", "b", "</think>", "c", "d"}), 4u);
  EXPECT_EQ(count(false, {"<th", "ink>a</thi", "nk>", "c"}), 3u);
  EXPECT_EQ(count(false, {"<think>a</think>b", "c"}), 1u);
  EXPECT_EQ(count(true, {"a", "", "b</think>", "c"}), 3u);
  EXPECT_EQ(count(true, {"a", "b"}), 2u);
  EXPECT_EQ(count(false, {"a", "<think>", "b"}), 0u);
}

}  // namespace
}  // namespace tritllm::server
