#include "text/jinja/token_stream.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace tritllm::jinja {
namespace {

std::string shown(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText: return "text";
    case TokenKind::kOutputBegin: return "'{{'";
    case TokenKind::kOutputEnd: return "'}}'";
    case TokenKind::kBlockBegin: return "'{%'";
    case TokenKind::kBlockEnd: return "'%}'";
    case TokenKind::kString: return "a string";
    case TokenKind::kEnd: return "the end of the template";
    default: return fmt::format("'{}'", token.text.substr(0, 40));
  }
}

}  // namespace

bool TokenStream::at_any_name(std::initializer_list<std::string_view> names) const noexcept {
  return at(TokenKind::kName) && std::find(names.begin(), names.end(), current().text) != names.end();
}

Token TokenStream::take() {
  if (at_ + 1 >= tokens_.size()) return current();
  return std::move(tokens_[at_++]);
}

bool TokenStream::take_name(std::string_view name) {
  if (!at_name(name)) return false;
  skip();
  return true;
}

bool TokenStream::take_operator(std::string_view text) {
  if (!at_operator(text)) return false;
  skip();
  return true;
}

Token TokenStream::expect(TokenKind kind, std::string_view what) {
  if (!at(kind)) fail_expected(what);
  return take();
}

void TokenStream::expect_operator(std::string_view text) {
  if (!take_operator(text)) fail_expected(fmt::format("'{}'", text));
}

void TokenStream::expect_name(std::string_view name) {
  if (!take_name(name)) fail_expected(fmt::format("'{}'", name));
}

void TokenStream::fail(std::string_view problem, int line) const {
  throw Error(ErrorCode::kBadInput, fmt::format("{}: line {}", where_, line), problem);
}

void TokenStream::fail_expected(std::string_view what) const { fail(fmt::format("expected {}, found {}", what, shown(current()))); }

void TokenStream::refuse(std::string_view construct, int line) const {
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: line {}", where_, line),
              fmt::format("{} is not supported in chat templates", construct), "docs/chat_templates.md lists what is");
}

}  // namespace tritllm::jinja
