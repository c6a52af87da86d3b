#include "server/answer_parser.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "core/json.h"
#include "server/api_error.h"

namespace tritllm::server {
namespace {

constexpr std::string_view kThink = "<think>", kThinkEnd = "</think>", kCall = "<tool_call>", kCallEnd = "</tool_call>";
constexpr std::string_view kWhite = " \t\r\n";
constexpr size_t kPromptEnd = 8;  // tokens in which an opened tag is looked for

// How many bytes at the end of `text` may be the beginning of `tag`.
size_t begun_tag(std::string_view text, std::string_view tag) noexcept {
  size_t length = std::min(text.size(), tag.size() - 1);
  while (length > 0 && !tag.starts_with(text.substr(text.size() - length))) --length;
  return length;
}

std::string_view trimmed(std::string_view text) noexcept {
  const size_t first = text.find_first_not_of(kWhite);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kWhite) - first + 1);
}

std::optional<AnswerPart> parse_call(std::string_view text, std::string_view arguments_name) {
  Json call;
  try {
    call = parse_json(trimmed(text), "call");
  } catch (const Error&) {
    return std::nullopt;
  }
  if (!call.is_object() || !call.contains("name") || !call["name"].is_string()) return std::nullopt;
  const auto arguments = call.find(arguments_name);
  if (arguments == call.end()) return AnswerPart{AnswerPart::Kind::kToolCall, "{}", call["name"]};
  if (arguments->is_string()) return AnswerPart{AnswerPart::Kind::kToolCall, arguments->get<std::string>(), call["name"]};
  return AnswerPart{AnswerPart::Kind::kToolCall, json_line(*arguments), call["name"]};
}

}  // namespace

AnswerFormat answer_format(const ServedModel& model, std::span<const TokenId> prompt, bool with_tools) {
  AnswerFormat format;
  const std::string_view source = model.language.chat_templates().source(with_tools);
  format.reasoning = source.find(kThink) != source.npos || source.find(kThinkEnd) != source.npos;
  if (format.reasoning) {
    const std::string end = model.tokenizer().decode(prompt.last(std::min(prompt.size(), kPromptEnd)), /*skip_special=*/false);
    format.begins_in_reasoning = trimmed(end).ends_with(kThink);
  }
  if (!with_tools) return format;
  const ChatTemplates& templates = model.language.chat_templates();
  static_cast<void>(templates.choose(/*with_tools=*/true));
  if (source.find(kCall) != source.npos) format.tools = ToolFormat::kTagged;
  else if (source.find("tools") != source.npos && source.find("\"parameters\"") != source.npos)
    format.tools = ToolFormat::kBareJson;
  else {
    throw ApiError(400, "tools: the model's chat template has no tool calls in a format that this server reads", "tools",
                   "unsupported_parameter");
  }
  return format;
}

AnswerParser::AnswerParser(const AnswerFormat& format)
    : format_(format), state_(format.begins_in_reasoning ? State::kReasoning : State::kBegin) {}

std::vector<AnswerPart> AnswerParser::push(std::string_view text) {
  pending_ += text;
  std::vector<AnswerPart> parts;
  read_reasoning_ = state_ == State::kReasoning;
  while (step(parts, /*last=*/false)) read_reasoning_ = read_reasoning_ || state_ == State::kReasoning;
  return parts;
}

std::vector<AnswerPart> AnswerParser::finish() {
  std::vector<AnswerPart> parts;
  while (step(parts, /*last=*/true)) {
  }
  return parts;
}

void AnswerParser::emit(std::vector<AnswerPart>& parts, AnswerPart::Kind kind, std::string text) {
  if (trim_) {
    text.erase(0, std::min(text.find_first_not_of(kWhite), text.size()));
    if (text.empty()) return;
    trim_ = false;
  }
  if (text.empty()) return;
  if (!parts.empty() && parts.back().kind == kind) parts.back().text += text;
  else parts.push_back({kind, std::move(text), ""});
}

bool AnswerParser::step(std::vector<AnswerPart>& parts, bool last) {
  switch (state_) {
    case State::kBegin: return take_begin(last);
    case State::kContent: return take_content(parts, last);
    case State::kReasoning: return take_reasoning(parts, last);
    case State::kCall: return take_call(parts, last);
    case State::kBareJson: return take_bare_json(parts, last);
  }
  return false;
}

// Reasoning and a bare call are known by what the answer begins with.
bool AnswerParser::take_begin(bool last) {
  const size_t first = pending_.find_first_not_of(kWhite);
  const std::string_view text = first == pending_.npos ? std::string_view() : std::string_view(pending_).substr(first);
  const bool may_think = format_.reasoning && kThink.starts_with(text.substr(0, kThink.size()));
  if (text.size() >= kThink.size() && may_think) {
    pending_.erase(0, first + kThink.size());
    state_ = State::kReasoning;
    trim_ = true;
    return true;
  }
  const bool undecided = text.empty() || (may_think && text.size() < kThink.size());
  if (undecided && !last && (format_.reasoning || format_.tools == ToolFormat::kBareJson)) return false;
  state_ = format_.tools == ToolFormat::kBareJson && text.starts_with('{') ? State::kBareJson : State::kContent;
  return true;
}

bool AnswerParser::take_until(std::string_view tag, AnswerPart::Kind kind, std::vector<AnswerPart>& parts, bool last) {
  const size_t at = pending_.find(tag);
  const size_t end = at != pending_.npos ? at : pending_.size() - (last ? 0 : begun_tag(pending_, tag));
  emit(parts, kind, pending_.substr(0, end));
  pending_.erase(0, at == pending_.npos ? end : at + tag.size());
  return at != pending_.npos && end == at;
}

bool AnswerParser::take_content(std::vector<AnswerPart>& parts, bool last) {
  if (format_.tools != ToolFormat::kTagged) {
    emit(parts, AnswerPart::Kind::kContent, std::exchange(pending_, {}));
    return false;
  }
  if (!take_until(kCall, AnswerPart::Kind::kContent, parts, last)) return false;
  state_ = State::kCall;
  return true;
}

bool AnswerParser::take_reasoning(std::vector<AnswerPart>& parts, bool last) {
  if (!take_until(kThinkEnd, AnswerPart::Kind::kReasoning, parts, last)) return false;
  state_ = State::kBegin;
  trim_ = true;
  return true;
}

bool AnswerParser::take_call(std::vector<AnswerPart>& parts, bool last) {
  const size_t end = pending_.find(kCallEnd);
  if (end == pending_.npos && !last) return false;
  // A stop string or an end token may stand in the tag's place.
  auto call = parse_call(std::string_view(pending_).substr(0, end), "arguments");
  if (call) parts.push_back(std::move(*call));
  else
    emit(parts, AnswerPart::Kind::kContent,
         std::string(kCall) + pending_.substr(0, end) + std::string(end == pending_.npos ? "" : kCallEnd));
  pending_.erase(0, end == pending_.npos ? end : end + kCallEnd.size());
  state_ = State::kContent;
  trim_ = call.has_value();
  return !pending_.empty();
}

bool AnswerParser::take_bare_json(std::vector<AnswerPart>& parts, bool last) {
  if (!last) return false;
  auto call = parse_call(pending_, "parameters");
  if (call) parts.push_back(std::move(*call));
  else emit(parts, AnswerPart::Kind::kContent, pending_);
  pending_.clear();
  state_ = State::kContent;
  return false;
}

}  // namespace tritllm::server
