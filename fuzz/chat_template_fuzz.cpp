// Owns the fuzz target of chat templates: any template over any conversation gives a prompt or an Error within the limits, and the
// marked places of a prompt are ascending ranges of it. The prompt's length and the time are in proportion to the input. An input
// is "template 0xff conversation"; the conversation is a JSON object {messages, tools, documents, variables}, or messages alone.
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "core/utf8.h"
#include "growth_oracle.h"
#include "text/chat_template.h"

namespace {

using namespace tritllm;

constexpr std::string_view kConversation =
    R"({"messages":[{"role":"system","content":"S <|im_end|>"},{"role":"user","content":[{"type":"text","text":"\u00fc"}]},)"
    R"({"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":{"a":1.5}}}]},)"
    R"({"role":"tool","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}],"variables":{"n":3}})";

ChatTemplateInputs inputs_of(std::string_view text) {
  Json request = parse_json(text, "conversation");
  ChatTemplateInputs inputs;
  inputs.bos_token = "<s>";
  inputs.eos_token = "</s>";
  inputs.now = {};
  if (!request.is_object()) {
    inputs.messages = std::move(request);
    return inputs;
  }
  inputs.messages = request.value("messages", Json::array());
  inputs.tools = request.value("tools", Json());
  inputs.documents = request.value("documents", Json());
  inputs.variables = request.value("variables", Json::object());
  return inputs;
}

void check(const RenderedPrompt& prompt) {
  if (!is_valid_utf8(prompt.text)) std::abort();
  size_t last = 0;
  bool first = true;
  for (const TextSpan& span : prompt.literal) {
    // Ranges that touch would be one range.
    if (span.begin >= span.end || span.end > prompt.text.size() || (!first && span.begin <= last)) std::abort();
    last = span.end;
    first = false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t separator = input.find('\xff');
  const std::string_view conversation = separator == std::string_view::npos ? kConversation : input.substr(separator + 1);
  const GrowthOracle growth(size + conversation.size());
  try {
    const ChatTemplate parsed = ChatTemplate::parse(std::string(input.substr(0, separator)), "fuzz");
    const RenderedPrompt prompt = parsed.render(inputs_of(conversation));
    growth.check_output(prompt.text.size(), 4 << 20, 64);
    check(prompt);
  } catch (const Error&) {
  }
  growth.check_time(8, 100);
  return 0;
}
