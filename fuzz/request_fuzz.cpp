// Owns the fuzz target of what a request's body goes through before the engine sees it: JSON, the table of fields, messages and
// tools; and of the parser of answers, whose parts do not depend on the pieces of the text.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "server/answer_parser.h"
#include "server/api_error.h"
#include "server/generation_fields.h"
#include "server/message_fields.h"
#include "server/messages.h"
#include "server/output_format.h"

namespace {

using namespace tritllm;
using namespace tritllm::server;

std::string parts_of(const AnswerFormat& format, std::string_view text, size_t piece) {
  AnswerParser parser(format);
  std::string all[3];
  const auto take = [&](const std::vector<AnswerPart>& parts) {
    for (const AnswerPart& part : parts) all[static_cast<size_t>(part.kind)] += part.name + part.text;
  };
  for (size_t at = 0; at < text.size(); at += piece) take(parser.push(text.substr(at, piece)));
  take(parser.finish());
  return all[0] + '\0' + all[1] + '\0' + all[2];
}

void read_request(std::string_view body) {
  try {
    const Json request = parse_json(body, kRequestPlace);
    check_fields(request, joined({{messages_field(), tools_field(/*nested=*/true), tool_choice_field(/*nested=*/true),
                                   format_field("response_format", /*nested=*/true), template_variables_field()},
                                  generation_fields()}));
    const JsonView view(request, kRequestPlace);
    if (view.has("messages")) static_cast<void>(read_messages(view.child("messages")));
    static_cast<void>(read_tools(view, /*constrained=*/false));
    static_cast<void>(read_tool_choice(view, /*nested=*/true));
  } catch (const ApiError& error) {
    static_cast<void>(error_response(error));
  } catch (const Error& error) {
    static_cast<void>(error_response(api_error(error)));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  read_request(input);
  for (const ToolFormat tools : {ToolFormat::kNone, ToolFormat::kTagged, ToolFormat::kBareJson}) {
    for (const bool reasoning : {false, true}) {
      const AnswerFormat format{tools, reasoning, false};
      if (parts_of(format, input, 1) != parts_of(format, input, size + 1)) std::abort();
    }
  }
  return 0;
}
