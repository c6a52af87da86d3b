// Owns the grammar of expressions. Does not own that of statements (parser).
#pragma once

#include <initializer_list>
#include <string_view>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace tritllm::jinja {

// The special names that the expressions parsed so far have read; a macro accepts extra arguments or a caller if its body reads
// them.
struct MacroNames {
  bool varargs = false, kwargs = false, caller = false;
};

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExpressionPtr expression(bool with_conditional = true);

  // One expression, or several with commas between them: a tuple. `end_names` may follow a trailing comma.
  ExpressionPtr tuple(bool with_conditional = true, std::initializer_list<std::string_view> end_names = {});

  // `name | …` without its input: the filters of a filter or set block, applied to what that captured. `started`: the first
  // filter's name comes without a bar.
  ExpressionPtr filters_of_block(bool started);

  MacroNames& names_read() noexcept { return names_read_; }

  // A node one deeper than `depth`, within the limit on nesting.
  template <typename Node>
  ExpressionPtr make(Node node, int line, int depth) {
    check_depth(depth, line);
    return std::make_unique<const Expression>(Expression{std::move(node), line, depth + 1});
  }

 private:
  ExpressionPtr parenthesized();
  ExpressionPtr tuple_items(bool parenthesized, bool with_conditional, std::initializer_list<std::string_view> end_names);
  bool at_tuple_end(std::initializer_list<std::string_view> end_names) const;
  ExpressionPtr conditional();
  ExpressionPtr disjunction();
  ExpressionPtr conjunction();
  ExpressionPtr negation();
  ExpressionPtr comparison();
  bool comparison_operator(ComparisonOperator& op);
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary(bool with_filters = true);
  ExpressionPtr primary();
  ExpressionPtr name();
  ExpressionPtr string();
  ExpressionPtr number();
  ExpressionPtr list();
  ExpressionPtr dict();
  ExpressionPtr postfix(ExpressionPtr object);
  ExpressionPtr filters_and_tests(ExpressionPtr input);
  ExpressionPtr subscript(ExpressionPtr object);
  ExpressionPtr index_or_slice();
  ExpressionPtr call(ExpressionPtr callee);
  ExpressionPtr filter(ExpressionPtr input);
  ExpressionPtr test(ExpressionPtr input);
  CallArguments arguments(int& depth);
  std::string dotted_name(std::string_view what);
  void check_depth(int depth, int line) const;

  TokenStream& tokens_;
  MacroNames names_read_;
  int open_ = 0;  // expressions being parsed inside each other: bounds the recursion before there is a tree
};

}  // namespace tritllm::jinja
