// The part of ExpressionParser for what follows an expression: subscripts, calls, filters and tests.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "text/jinja/expression_parser.h"

namespace tritllm::jinja {

ExpressionPtr ExpressionParser::postfix(ExpressionPtr object) {
  while (true) {
    if (tokens_.at_operator(".") || tokens_.at_operator("[")) object = subscript(std::move(object));
    else if (tokens_.at_operator("(")) object = call(std::move(object));
    else return object;
  }
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr input) {
  while (true) {
    if (tokens_.take_operator("|")) input = filter(std::move(input));
    else if (tokens_.take_name("is")) input = test(std::move(input));
    else if (tokens_.at_operator("(")) input = call(std::move(input));
    else return input;
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr object) {
  const int line = tokens_.line();
  const int depth = object->depth;
  if (tokens_.take_operator(".")) {
    Token attribute = tokens_.take();
    if (attribute.kind == TokenKind::kName) return make(Attribute{std::move(object), std::move(attribute.text)}, line, depth);
    if (attribute.kind != TokenKind::kInteger) tokens_.fail("expected a name or a number after '.'", attribute.line);
    int64_t index = 0;
    const char* end = attribute.text.data() + attribute.text.size();
    if (const auto read = std::from_chars(attribute.text.data(), end, index); read.ec != std::errc() || read.ptr != end) {
      tokens_.refuse(fmt::format("the index {}", attribute.text), attribute.line);
    }
    return make(Subscript{std::move(object), make(Literal{integer(index)}, line, 0)}, line, depth);
  }
  tokens_.expect_operator("[");
  if (tokens_.at_operator("]")) tokens_.fail_expected("an index");
  ExpressionPtr index = index_or_slice();
  if (tokens_.at_operator(",")) tokens_.refuse("an index of several parts", line);
  tokens_.expect_operator("]");
  const int deepest = std::max(depth, index->depth);
  return make(Subscript{std::move(object), std::move(index)}, line, deepest);
}

ExpressionPtr ExpressionParser::index_or_slice() {
  const int line = tokens_.line();
  SliceBounds bounds;
  int depth = 0;
  const auto bound = [&]() -> ExpressionPtr {
    if (tokens_.at_operator(":") || tokens_.at_operator("]") || tokens_.at_operator(",")) return nullptr;
    ExpressionPtr value = expression();
    depth = std::max(depth, value->depth);
    return value;
  };
  bounds.start = bound();
  if (!tokens_.take_operator(":")) return std::move(bounds.start);
  bounds.stop = bound();
  if (tokens_.take_operator(":")) bounds.step = bound();
  return make(std::move(bounds), line, depth);
}

CallArguments ExpressionParser::arguments(int& depth) {
  CallArguments result;
  const auto argument = [&] {
    ExpressionPtr value = expression();
    depth = std::max(depth, value->depth);
    return value;
  };
  const auto require = [&](bool sound) {
    if (!sound) tokens_.fail("the arguments of a call are out of order");
  };
  tokens_.expect_operator("(");
  bool first = true;
  while (!tokens_.at_operator(")")) {
    if (!first) tokens_.expect_operator(",");
    if (tokens_.at_operator(")")) break;
    first = false;
    if (tokens_.take_operator("*")) {
      require(!result.star && !result.double_star);
      result.star = argument();
    } else if (tokens_.take_operator("**")) {
      require(!result.double_star);
      result.double_star = argument();
    } else if (tokens_.at(TokenKind::kName) && tokens_.following().kind == TokenKind::kOperator &&
               tokens_.following().text == "=") {
      require(!result.double_star);
      std::string name = tokens_.take().text;
      tokens_.skip();
      const auto same = [&](const auto& keyword) { return keyword.first == name; };
      if (std::any_of(result.keywords.begin(), result.keywords.end(), same)) {
        tokens_.fail(fmt::format("the argument '{}' stands twice", name));
      }
      result.keywords.emplace_back(std::move(name), argument());
    } else {
      require(!result.star && !result.double_star && result.keywords.empty());
      result.positional.push_back(argument());
    }
  }
  tokens_.expect_operator(")");
  return result;
}

ExpressionPtr ExpressionParser::call(ExpressionPtr callee) {
  const int line = tokens_.line();
  int depth = callee->depth;
  CallArguments given = arguments(depth);
  return make(Call{std::move(callee), std::move(given)}, line, depth);
}

std::string ExpressionParser::dotted_name(std::string_view what) {
  std::string name = tokens_.expect(TokenKind::kName, what).text;
  while (tokens_.take_operator(".")) name.append(".").append(tokens_.expect(TokenKind::kName, what).text);
  return name;
}

ExpressionPtr ExpressionParser::filter(ExpressionPtr input) {
  const int line = tokens_.line();
  std::string name = dotted_name("the name of a filter");
  int depth = input ? input->depth : 0;
  CallArguments given;
  if (tokens_.at_operator("(")) given = arguments(depth);
  return make(FilterCall{std::move(input), std::move(name), std::move(given)}, line, depth);
}

ExpressionPtr ExpressionParser::filters_of_block(bool started) {
  ExpressionPtr result;
  if (started) result = filter(nullptr);
  while (tokens_.take_operator("|")) result = filter(std::move(result));
  return result;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr input) {
  const int line = tokens_.line();
  const bool negated = tokens_.take_name("not");
  std::string name = dotted_name("the name of a test");
  int depth = input->depth;
  CallArguments given;
  if (tokens_.at_operator("(")) {
    given = arguments(depth);
  } else if ((tokens_.at(TokenKind::kName) && !tokens_.at_any_name({"else", "or", "and"})) || tokens_.at(TokenKind::kString) ||
             tokens_.at(TokenKind::kInteger) || tokens_.at(TokenKind::kFloat) || tokens_.at_operator("[") ||
             tokens_.at_operator("{")) {
    if (tokens_.at_name("is")) tokens_.fail("several tests in a row; put the first into parentheses");
    given.positional.push_back(postfix(primary()));
    depth = std::max(depth, given.positional.back()->depth);
  }
  ExpressionPtr result = make(TestCall{std::move(input), std::move(name), std::move(given)}, line, depth);
  return negated ? make(Unary{UnaryOperator::kNot, std::move(result)}, line, depth + 1) : std::move(result);
}

}  // namespace tritllm::jinja
