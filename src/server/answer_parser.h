// Owns the cutting of an answer's text, as it comes, into what clients get apart: reasoning, content and tool calls. Does not own
// how a protocol writes these parts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_fwd.h"
#include "server/model_pool.h"

namespace tritllm::server {

enum class ToolFormat {
  kNone,
  kTagged,    // <tool_call>{"name", "arguments"}</tool_call>, any number: Hermes, Qwen
  kBareJson,  // the whole answer is {"name", "parameters"}: Llama 3
};

struct AnswerFormat {
  ToolFormat tools = ToolFormat::kNone;
  bool reasoning = false;            // <think>…</think> is split off
  bool begins_in_reasoning = false;  // the prompt ends with <think>
};

// For a constrained answer, which has its form from the first token on.
inline void leave_no_room_for_reasoning(AnswerFormat& format) noexcept { format.reasoning = format.begins_in_reasoning = false; }

// What the model's template and the prompt's end tell. Throws an ApiError where there are tools that the template does not know.
AnswerFormat answer_format(const ServedModel& model, std::span<const TokenId> prompt, bool with_tools);

struct AnswerPart {
  enum class Kind { kContent, kReasoning, kToolCall };
  Kind kind;
  std::string text;  // of a tool call: its arguments, the text of a JSON object
  std::string name;  // of a tool call
};

// All parts put together are the whole text without the tags. A call is handed on when it is complete; what does not parse as one
// is content.
class AnswerParser {
 public:
  explicit AnswerParser(const AnswerFormat& format);
  std::vector<AnswerPart> push(std::string_view text);
  std::vector<AnswerPart> finish();
  // Whether the last push() read reasoning, its tags included.
  bool read_reasoning() const noexcept { return read_reasoning_; }

 private:
  enum class State { kBegin, kContent, kReasoning, kCall, kBareJson };

  // Takes one step on pending_; false where it needs more text.
  bool step(std::vector<AnswerPart>& parts, bool last);
  bool take_begin(bool last);
  bool take_content(std::vector<AnswerPart>& parts, bool last);
  bool take_reasoning(std::vector<AnswerPart>& parts, bool last);
  bool take_call(std::vector<AnswerPart>& parts, bool last);
  bool take_bare_json(std::vector<AnswerPart>& parts, bool last);
  // Hands on the text before `tag`; true where the tag is complete. What may be the beginning of the tag stays.
  bool take_until(std::string_view tag, AnswerPart::Kind kind, std::vector<AnswerPart>& parts, bool last);
  void emit(std::vector<AnswerPart>& parts, AnswerPart::Kind kind, std::string text);

  const AnswerFormat format_;
  State state_;
  std::string pending_;
  bool trim_ = false;  // white space after a closing tag is not content
  bool read_reasoning_ = false;
};

}  // namespace tritllm::server
