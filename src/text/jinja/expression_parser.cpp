#include "text/jinja/expression_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace tritllm::jinja {
namespace {

int depth_of_node(const ExpressionPtr& expression) noexcept { return expression ? expression->depth : 0; }

class Nesting {
 public:
  explicit Nesting(int& open) : open_(open) { ++open_; }
  ~Nesting() { --open_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int& open_;
};

}  // namespace

void ExpressionParser::check_depth(int depth, int line) const {
  if (depth >= kSourceDepth) tokens_.fail(fmt::format("expressions nest deeper than the limit of {} levels", kSourceDepth), line);
}

ExpressionPtr ExpressionParser::expression(bool with_conditional) {
  check_depth(open_, tokens_.line());
  const Nesting nesting(open_);
  return with_conditional ? conditional() : disjunction();
}

bool ExpressionParser::at_tuple_end(std::initializer_list<std::string_view> end_names) const {
  return tokens_.at(TokenKind::kOutputEnd) || tokens_.at(TokenKind::kBlockEnd) || tokens_.at_operator(")") ||
         tokens_.at_any_name(end_names);
}

ExpressionPtr ExpressionParser::tuple(bool with_conditional, std::initializer_list<std::string_view> end_names) {
  return tuple_items(false, with_conditional, end_names);
}

ExpressionPtr ExpressionParser::tuple_items(bool parenthesized, bool with_conditional,
                                            std::initializer_list<std::string_view> end_names) {
  const int line = tokens_.line();
  TupleDisplay display;
  int depth = 0;
  bool is_tuple = false;
  while (!at_tuple_end(end_names)) {
    display.items.push_back(expression(with_conditional));
    depth = std::max(depth, display.items.back()->depth);
    if (!tokens_.take_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !display.items.empty()) return std::move(display.items.front());
  if (!is_tuple && !parenthesized) tokens_.fail_expected("an expression");
  return make(std::move(display), line, depth);
}

ExpressionPtr ExpressionParser::conditional() {
  const int line = tokens_.line();
  ExpressionPtr result = disjunction();
  while (tokens_.take_name("if")) {
    ExpressionPtr condition = disjunction();
    ExpressionPtr otherwise;
    if (tokens_.take_name("else")) otherwise = expression();
    const int depth = std::max({condition->depth, result->depth, depth_of_node(otherwise)});
    result = make(Conditional{std::move(condition), std::move(result), std::move(otherwise)}, line, depth);
  }
  return result;
}

ExpressionPtr ExpressionParser::disjunction() {
  ExpressionPtr left = conjunction();
  while (tokens_.at_name("or")) {
    const int line = tokens_.take().line;
    ExpressionPtr right = conjunction();
    const int depth = std::max(left->depth, right->depth);
    left = make(Logic{LogicOperator::kOr, std::move(left), std::move(right)}, line, depth);
  }
  return left;
}

ExpressionPtr ExpressionParser::conjunction() {
  ExpressionPtr left = negation();
  while (tokens_.at_name("and")) {
    const int line = tokens_.take().line;
    ExpressionPtr right = negation();
    const int depth = std::max(left->depth, right->depth);
    left = make(Logic{LogicOperator::kAnd, std::move(left), std::move(right)}, line, depth);
  }
  return left;
}

ExpressionPtr ExpressionParser::negation() {
  if (!tokens_.at_name("not")) return comparison();
  const int line = tokens_.take().line;
  check_depth(open_, line);
  const Nesting nesting(open_);
  ExpressionPtr operand = negation();
  const int depth = operand->depth;
  return make(Unary{UnaryOperator::kNot, std::move(operand)}, line, depth);
}

bool ExpressionParser::comparison_operator(ComparisonOperator& op) {
  static constexpr std::pair<std::string_view, ComparisonOperator> kOperators[] = {
      {"==", ComparisonOperator::kEqual},     {"!=", ComparisonOperator::kNotEqual}, {"<", ComparisonOperator::kLess},
      {"<=", ComparisonOperator::kLessEqual}, {">", ComparisonOperator::kGreater},   {">=", ComparisonOperator::kGreaterEqual}};
  for (const auto& [text, candidate] : kOperators) {
    if (!tokens_.take_operator(text)) continue;
    op = candidate;
    return true;
  }
  if (tokens_.take_name("in")) {
    op = ComparisonOperator::kIn;
    return true;
  }
  const Token& next = tokens_.following();
  if (tokens_.at_name("not") && next.kind == TokenKind::kName && next.text == "in") {
    tokens_.skip();
    tokens_.skip();
    op = ComparisonOperator::kNotIn;
    return true;
  }
  return false;
}

ExpressionPtr ExpressionParser::comparison() {
  const int line = tokens_.line();
  Comparison comparison{sum(), {}};
  int depth = comparison.first->depth;
  for (ComparisonOperator op{}; comparison_operator(op);) {
    comparison.rest.emplace_back(op, sum());
    depth = std::max(depth, comparison.rest.back().second->depth);
  }
  if (comparison.rest.empty()) return std::move(comparison.first);
  return make(std::move(comparison), line, depth);
}

ExpressionPtr ExpressionParser::sum() {
  ExpressionPtr left = concatenation();
  while (tokens_.at_operator("+") || tokens_.at_operator("-")) {
    const Token op = tokens_.take();
    ExpressionPtr right = concatenation();
    const int depth = std::max(left->depth, right->depth);
    const BinaryOperator kind = op.text == "+" ? BinaryOperator::kAdd : BinaryOperator::kSubtract;
    left = make(Binary{kind, std::move(left), std::move(right)}, op.line, depth);
  }
  return left;
}

ExpressionPtr ExpressionParser::concatenation() {
  const int line = tokens_.line();
  Concatenation concatenation;
  concatenation.parts.push_back(product());
  int depth = concatenation.parts.back()->depth;
  while (tokens_.take_operator("~")) {
    concatenation.parts.push_back(product());
    depth = std::max(depth, concatenation.parts.back()->depth);
  }
  if (concatenation.parts.size() == 1) return std::move(concatenation.parts.front());
  return make(std::move(concatenation), line, depth);
}

ExpressionPtr ExpressionParser::product() {
  static constexpr std::pair<std::string_view, BinaryOperator> kOperators[] = {{"*", BinaryOperator::kMultiply},
                                                                               {"/", BinaryOperator::kDivide},
                                                                               {"//", BinaryOperator::kFloorDivide},
                                                                               {"%", BinaryOperator::kModulo}};
  ExpressionPtr left = power();
  while (true) {
    const auto* found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                     [&](const auto& candidate) { return tokens_.at_operator(candidate.first); });
    if (found == std::end(kOperators)) return left;
    const int line = tokens_.take().line;
    ExpressionPtr right = power();
    const int depth = std::max(left->depth, right->depth);
    left = make(Binary{found->second, std::move(left), std::move(right)}, line, depth);
  }
}

ExpressionPtr ExpressionParser::power() {
  ExpressionPtr left = unary();
  while (tokens_.at_operator("**")) {
    const int line = tokens_.take().line;
    ExpressionPtr right = unary();
    const int depth = std::max(left->depth, right->depth);
    left = make(Binary{BinaryOperator::kPower, std::move(left), std::move(right)}, line, depth);
  }
  return left;
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  ExpressionPtr result;
  if (tokens_.at_operator("-") || tokens_.at_operator("+")) {
    const Token sign = tokens_.take();
    check_depth(open_, sign.line);
    const Nesting nesting(open_);
    ExpressionPtr operand = unary(false);
    const int depth = operand->depth;
    result = make(Unary{sign.text == "-" ? UnaryOperator::kMinus : UnaryOperator::kPlus, std::move(operand)}, sign.line, depth);
  } else {
    result = primary();
  }
  result = postfix(std::move(result));
  return with_filters ? filters_and_tests(std::move(result)) : std::move(result);
}

ExpressionPtr ExpressionParser::primary() {
  const int line = tokens_.line();
  if (tokens_.at(TokenKind::kName)) return name();
  if (tokens_.at(TokenKind::kString)) return string();
  if (tokens_.at(TokenKind::kInteger) || tokens_.at(TokenKind::kFloat)) return number();
  if (tokens_.take_operator("(")) return parenthesized();
  if (tokens_.take_operator("[")) return list();
  if (tokens_.take_operator("{")) return dict();
  tokens_.fail(fmt::format("expected an expression, found '{}'", tokens_.current().text), line);
}

ExpressionPtr ExpressionParser::parenthesized() {
  ExpressionPtr result = tuple_items(true, true, {});
  tokens_.expect_operator(")");
  return result;
}

ExpressionPtr ExpressionParser::name() {
  Token token = tokens_.take();
  const std::string& text = token.text;
  if (text == "true" || text == "True") return make(Literal{boolean(true)}, token.line, 0);
  if (text == "false" || text == "False") return make(Literal{boolean(false)}, token.line, 0);
  if (text == "none" || text == "None") return make(Literal{none()}, token.line, 0);
  if (text == "varargs") names_read_.varargs = true;
  if (text == "kwargs") names_read_.kwargs = true;
  if (text == "caller") names_read_.caller = true;
  return make(Name{std::move(token.text)}, token.line, 0);
}

ExpressionPtr ExpressionParser::string() {
  const int line = tokens_.line();
  std::string text;
  while (tokens_.at(TokenKind::kString)) text += tokens_.take().text;
  return make(Literal{template_value(std::move(text))}, line, 0);
}

ExpressionPtr ExpressionParser::number() {
  const Token token = tokens_.take();
  std::string digits = token.text;
  digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  if (token.kind == TokenKind::kFloat) {
    double value = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (result.ec != std::errc()) tokens_.refuse(fmt::format("the number {}", token.text), token.line);
    return make(Literal{real(value)}, token.line, 0);
  }
  int64_t value = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (result.ec != std::errc()) tokens_.refuse(fmt::format("the number {} beyond 64 bits", token.text), token.line);
  return make(Literal{integer(value)}, token.line, 0);
}

ExpressionPtr ExpressionParser::list() {
  const int line = tokens_.line();
  ListDisplay display;
  int depth = 0;
  while (!tokens_.at_operator("]")) {
    if (!display.items.empty()) tokens_.expect_operator(",");
    if (tokens_.at_operator("]")) break;
    display.items.push_back(expression());
    depth = std::max(depth, display.items.back()->depth);
  }
  tokens_.expect_operator("]");
  return make(std::move(display), line, depth);
}

ExpressionPtr ExpressionParser::dict() {
  const int line = tokens_.line();
  DictDisplay display;
  int depth = 0;
  while (!tokens_.at_operator("}")) {
    if (!display.items.empty()) tokens_.expect_operator(",");
    if (tokens_.at_operator("}")) break;
    ExpressionPtr key = expression();
    tokens_.expect_operator(":");
    ExpressionPtr value = expression();
    depth = std::max({depth, key->depth, value->depth});
    display.items.emplace_back(std::move(key), std::move(value));
  }
  tokens_.expect_operator("}");
  return make(std::move(display), line, depth);
}

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
      if (result.keywords.size() == kNamedArguments) {
        tokens_.fail(fmt::format("a call with more than the limit of {} named arguments", kNamedArguments));
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
