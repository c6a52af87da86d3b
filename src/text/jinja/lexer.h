// Owns the cutting of a template's source into tokens, white-space control included, as Jinja does it with trim_blocks and
// lstrip_blocks on and keep_trailing_newline off, and the walk over the tokens. Does not own grammar (parser).
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace tritllm::jinja {

enum class TokenKind { kText, kOutputBegin, kOutputEnd, kBlockBegin, kBlockEnd, kName, kString, kInteger, kFloat, kOperator, kEnd };

struct Token {
  TokenKind kind;
  std::string text;  // of names, operators and numbers as written; of texts and strings as they read
  int line;
};

// Tokens up to and including kEnd. Errors name `where` and the line.
std::vector<Token> tokenize(std::string_view source, const std::string& where);

class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, std::string where) : tokens_(std::move(tokens)), where_(std::move(where)) {}

  const Token& current() const noexcept { return tokens_[at_]; }
  const Token& following() const noexcept { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  int line() const noexcept { return current().line; }

  bool at(TokenKind kind) const noexcept { return current().kind == kind; }
  bool at_name(std::string_view name) const noexcept { return at(TokenKind::kName) && current().text == name; }
  bool at_any_name(std::initializer_list<std::string_view> names) const noexcept;
  bool at_operator(std::string_view text) const noexcept { return at(TokenKind::kOperator) && current().text == text; }

  Token take();
  bool take_name(std::string_view name);
  bool take_operator(std::string_view text);
  void skip() { take(); }

  Token expect(TokenKind kind, std::string_view what);
  void expect_operator(std::string_view text);
  void expect_name(std::string_view name);

  [[noreturn]] void fail(std::string_view problem) const { fail(problem, line()); }
  [[noreturn]] void fail(std::string_view problem, int line) const;
  [[noreturn]] void fail_expected(std::string_view what) const;
  [[noreturn]] void refuse(std::string_view construct, int line) const;

 private:
  std::vector<Token> tokens_;
  std::string where_;
  size_t at_ = 0;
};

}  // namespace tritllm::jinja
