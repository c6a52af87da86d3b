// Shows the chat-template engine to test_chat_template_oracle.py.
//
//   chat_template_probe REQUESTS OUT    for each line of REQUESTS, a JSON object {source, messages, tools, documents, variables,
//                                       add_generation_prompt, bos_token, eos_token, now}, a line of JSON: {text, literal} or
//                                       {error}
#include <fstream>
#include <iostream>

#include "core/error.h"
#include "core/json.h"
#include "text/chat_template.h"

namespace tritllm {
namespace {

ChatTemplateInputs inputs_of(const Json& request) {
  ChatTemplateInputs inputs;
  inputs.messages = request.at("messages");
  inputs.tools = request.value("tools", Json());
  inputs.documents = request.value("documents", Json());
  inputs.variables = request.value("variables", Json::object());
  inputs.add_generation_prompt = request.value("add_generation_prompt", false);
  inputs.bos_token = request.value("bos_token", "");
  inputs.eos_token = request.value("eos_token", "");
  inputs.now = std::chrono::system_clock::from_time_t(request.value("now", 0));
  return inputs;
}

Json answer(const Json& request) {
  try {
    const RenderedPrompt prompt = ChatTemplate::parse(request.at("source"), "template").render(inputs_of(request));
    Json literal = Json::array();
    for (const TextSpan& span : prompt.literal) literal.push_back({span.begin, span.end});
    return {{"text", prompt.text}, {"literal", std::move(literal)}};
  } catch (const Error& error) {
    return {{"error", error.what()}, {"unsupported", error.code() == ErrorCode::kUnsupported}};
  }
}

}  // namespace
}  // namespace tritllm

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    std::ifstream requests(argv[1]);
    std::ofstream answers(argv[2]);
    for (std::string line; std::getline(requests, line);) answers << tritllm::answer(tritllm::Json::parse(line)).dump() << "\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
