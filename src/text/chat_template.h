// Owns chat templates: a conversation to the text of a prompt, with the places where control tokens must not be recognised. Does
// not own tokenisation. docs/chat_templates.md says what is supported.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "text/types.h"

namespace tritllm {

struct ChatTemplateInputs {
  Json messages = Json::array();
  Json tools;      // null: none
  Json documents;  // null: none
  bool add_generation_prompt = true;
  Json variables = Json::object();   // extra ones, such as enable_thinking; those named here and functions cannot be replaced
  std::string bos_token, eos_token;  // empty: undefined for the template
  std::chrono::system_clock::time_point now = std::chrono::system_clock::now();  // for strftime_now, in local time
};

struct RenderedPrompt {
  std::string text;
  // The spans that came from strings of messages, tools, documents and variables: ascending, neither overlapping nor touching. A
  // control token that overlaps one of them must not be recognised.
  std::vector<TextSpan> literal;
};

class ChatTemplate {
 public:
  // `where` names the template in errors, usually a path.
  static ChatTemplate parse(std::string source, std::string where);

  // May run in several threads at once.
  RenderedPrompt render(const ChatTemplateInputs& inputs) const;

 private:
  struct Parsed;
  explicit ChatTemplate(std::shared_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}

  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace tritllm
