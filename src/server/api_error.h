// Owns how a failure looks to a client: the status and OpenAI's error body, which names the field. Does not own what can fail.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json_fwd.h"
#include "server/http.h"

namespace tritllm::server {

// A request that is not answered as it was asked for.
class ApiError : public std::runtime_error {
 public:
  // `param` names the field as clients write it ("messages[0].role"); `code` is a word that programs may compare. Either may be
  // empty.
  ApiError(unsigned status, std::string_view message, std::string_view param = {}, std::string_view code = {});

  unsigned status() const noexcept { return status_; }
  const std::string& param() const noexcept { return param_; }
  const std::string& code() const noexcept { return code_; }
  // OpenAI's class of the error, by the status.
  std::string_view type() const noexcept;

 private:
  unsigned status_;
  std::string param_, code_;
};

// What documents of a request are called in errors: parse_json(body, kRequestPlace).
inline constexpr const char* kRequestPlace = "request";

// An error of the modules below, about a request whose fields they know by other names: `prompt_field` is what holds the prompt.
ApiError api_error(const Error& error, std::string_view prompt_field = "prompt");

// {"error": {"message", "type", "param", "code"}}.
Json error_json(const ApiError& error);
HttpResponse error_response(const ApiError& error);

// The text of an answer; bytes that are not UTF-8, which no request can cause, are replaced.
std::string json_line(const Json& json);

}  // namespace tritllm::server
