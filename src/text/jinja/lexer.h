// Owns the cutting of a template's source into tokens, white-space control included, as Jinja does it with trim_blocks and
// lstrip_blocks on and keep_trailing_newline off. Does not own grammar (parser).
#pragma once

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

}  // namespace tritllm::jinja
