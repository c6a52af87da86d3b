#include "server/api_error.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/json.h"

namespace tritllm::server {
namespace {

// Seconds after which a client may come back; an answer takes about as long.
constexpr std::string_view kRetryAfter = "2";

// "/messages/0/role" as "messages[0].role".
std::string field_of_pointer(std::string_view pointer) {
  std::string field;
  while (!pointer.empty()) {
    pointer.remove_prefix(1);
    const size_t end = std::min(pointer.find('/'), pointer.size());
    const std::string_view step = pointer.substr(0, end);
    const bool index = !step.empty() && std::ranges::all_of(step, [](char c) { return c >= '0' && c <= '9'; });
    if (index) field += fmt::format("[{}]", step);
    else field += field.empty() ? std::string(step) : fmt::format(".{}", step);
    pointer.remove_prefix(end);
  }
  return field;
}

struct FieldName {
  std::string_view below, here;
};
constexpr FieldName kFieldNames[] = {{"top_log_probabilities", "top_logprobs"}, {"stops", "stop"}};

std::string field_of(const Error& error, std::string_view prompt_field) {
  const std::string pointer_prefix = std::string(kRequestPlace) + ": ";
  if (error.where() == kRequestPlace) return "";
  if (error.where().starts_with(pointer_prefix)) {
    return field_of_pointer(std::string_view(error.where()).substr(pointer_prefix.size()));
  }
  if (error.where() == "prompt") return std::string(prompt_field);
  for (const auto& [below, here] : kFieldNames) {
    if (error.where() == below) return std::string(here);
  }
  return error.where();
}

unsigned status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
    case ErrorCode::kBadInput:
    case ErrorCode::kUnsupported: return 400;
    case ErrorCode::kNotFound: return 404;
    case ErrorCode::kIo:
    case ErrorCode::kConflict: return 500;
  }
  return 500;
}

}  // namespace

ApiError::ApiError(unsigned status, std::string_view message, std::string_view param, std::string_view code)
    : std::runtime_error(printable(message, 2000)), status_(status), param_(printable(param, 200)), code_(code) {}

std::string_view ApiError::type() const noexcept {
  switch (status_) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 429: return "rate_limit_error";
    default: return status_ >= 500 ? "server_error" : "invalid_request_error";
  }
}

ApiError api_error(const Error& error, std::string_view prompt_field) {
  const std::string field = field_of(error, prompt_field);
  std::string message = field.empty() ? error.problem() : fmt::format("{}: {}", field, error.problem());
  if (!error.remedy().empty()) message += "; " + error.remedy();
  const bool too_long = error.where() == "prompt" && error.problem().find("context") != std::string::npos;
  return {status_of(error.code()), message, field, too_long ? "context_length_exceeded" : ""};
}

Json error_json(const ApiError& error) {
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  return {{"error",
           {{"message", error.what()},
            {"type", error.type()},
            {"param", text_or_null(error.param())},
            {"code", text_or_null(error.code())}}}};
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response{.status = error.status(), .body = json_line(error_json(error))};
  if (error.status() == 429 || error.status() == 503) response.fields.emplace_back("Retry-After", kRetryAfter);
  return response;
}

std::string json_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace tritllm::server
