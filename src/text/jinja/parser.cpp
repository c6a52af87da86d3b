// Owns the grammar of statements.
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/utf8.h"
#include "text/jinja/ast.h"
#include "text/jinja/expression_parser.h"

namespace tritllm::jinja {
namespace {

using Names = std::initializer_list<std::string_view>;

class Parser {
 public:
  Parser(std::string_view source, const std::string& where) : tokens_(tokenize(source, where), where), expressions_(tokens_) {}

  Body run() {
    Body body = statements({});
    if (!tokens_.at(TokenKind::kEnd)) tokens_.fail_expected("the end of the template");
    return body;
  }

 private:
  // Statements up to a tag that starts with one of `ends`, whose name is the current token then; with no ends, up to the end.
  Body statements(Names ends) {
    if (++open_blocks_ > kSourceDepth) tokens_.fail(fmt::format("blocks nest deeper than the limit of {} levels", kSourceDepth));
    Body body;
    while (!tokens_.at(TokenKind::kEnd)) {
      const int line = tokens_.line();
      if (tokens_.at(TokenKind::kText)) {
        body.push_back({TemplateText{template_value(tokens_.take().text)}, line});
      } else if (tokens_.at(TokenKind::kOutputBegin)) {
        tokens_.skip();
        Output output;
        output.values.push_back(expressions_.tuple());
        tokens_.expect(TokenKind::kOutputEnd, "'}}'");
        body.push_back({std::move(output), line});
      } else {
        tokens_.expect(TokenKind::kBlockBegin, "a tag");
        if (tokens_.at_any_name(ends)) {
          --open_blocks_;
          return body;
        }
        body.push_back(statement());
        tokens_.expect(TokenKind::kBlockEnd, "'%}'");
      }
    }
    if (ends.size() > 0) tokens_.fail(fmt::format("the template ends where '{}' is still to come", *(ends.end() - 1)));
    --open_blocks_;
    return body;
  }

  // The body of the tag that was just read, up to a tag named by `ends`.
  Body block(Names ends) {
    tokens_.take_operator(":");
    tokens_.expect(TokenKind::kBlockEnd, "'%}'");
    return statements(ends);
  }

  Body block_to(std::string_view end) {
    Body body = block({end});
    tokens_.skip();
    return body;
  }

  Statement statement() {
    const Token tag = tokens_.expect(TokenKind::kName, "the name of a tag");
    const int line = tag.line;
    if (tag.text == "if") return {if_statement(), line};
    if (tag.text == "for") return {for_statement(), line};
    if (tag.text == "set") return set_statement(line);
    if (tag.text == "macro") return {macro_statement(), line};
    if (tag.text == "call") return {call_block(line), line};
    if (tag.text == "filter") return {filter_block(), line};
    if (tag.text == "generation") return {Generation{detached_block("endgeneration")}, line};
    if (tag.text == "with") return {with_statement(), line};
    if (tag.text == "print") return {print_statement(), line};
    if (tag.text == "break" || tag.text == "continue") {
      if (loops_ == 0) tokens_.fail(fmt::format("'{}' stands outside a loop", tag.text), line);
      if (tag.text == "break") return {Break{}, line};
      return {Continue{}, line};
    }
    for (const std::string_view known : {"autoescape", "block", "extends", "include", "import", "from", "do", "debug", "trans"}) {
      if (tag.text == known) tokens_.refuse(fmt::format("the tag '{}'", known), line);
    }
    tokens_.fail(fmt::format("an unknown tag '{}'", tag.text), line);
  }

  If if_statement() {
    If result;
    ExpressionPtr condition = expressions_.tuple(false);
    while (true) {
      Body body = block({"elif", "else", "endif"});
      result.branches.emplace_back(std::move(condition), std::move(body));
      const Token end = tokens_.take();
      if (end.text == "endif") return result;
      if (end.text == "else") break;
      condition = expressions_.tuple(false);
    }
    result.otherwise = block_to("endif");
    return result;
  }

  For for_statement() {
    For result;
    result.target = target(false, {"in"});
    tokens_.expect_name("in");
    result.iterable = expressions_.tuple(false, {"recursive"});
    if (tokens_.take_name("if")) result.condition = expressions_.expression();
    if (tokens_.at_name("recursive")) tokens_.refuse("a recursive loop", tokens_.line());
    ++loops_;
    ++open_loops_;
    result.body = block({"endfor", "else"});
    --loops_;
    const bool has_else = tokens_.take().text == "else";
    if (has_else) result.otherwise = block_to("endfor");
    --open_loops_;
    return result;
  }

  Statement set_statement(int line) {
    Target assigned = target(true, {});
    if (tokens_.take_operator("=")) return {Set{std::move(assigned), expressions_.tuple()}, line};
    ExpressionPtr filter = expressions_.filters_of_block(false);
    Body body = block_to("endset");
    return {SetBlock{std::move(assigned), std::move(filter), std::move(body)}, line};
  }

  MacroStatement macro_statement() {
    auto macro = std::make_unique<MacroDefinition>();
    macro->name = target_name(false);
    parameters(*macro);
    macro_body(*macro, "endmacro");
    return {std::move(macro)};
  }

  CallBlock call_block(int line) {
    auto caller = std::make_unique<MacroDefinition>();
    caller->name = "caller";
    if (tokens_.at_operator("(")) parameters(*caller);
    ExpressionPtr call = expressions_.expression();
    if (!std::holds_alternative<Call>(call->node)) tokens_.fail("expected the call of a macro", line);
    macro_body(*caller, "endcall");
    return {std::move(caller), std::move(call)};
  }

  void parameters(MacroDefinition& macro) {
    tokens_.expect_operator("(");
    while (!tokens_.at_operator(")")) {
      if (!macro.parameters.empty()) tokens_.expect_operator(",");
      const int line = tokens_.line();
      Parameter parameter{target_name(false), nullptr};
      for (const Parameter& other : macro.parameters) {
        if (other.name == parameter.name) tokens_.fail(fmt::format("the parameter '{}' stands twice", other.name), line);
      }
      if (tokens_.take_operator("=")) {
        parameter.fallback = expressions_.expression();
      } else if (!macro.parameters.empty() && macro.parameters.back().fallback) {
        tokens_.fail("a parameter without a default follows one with a default", line);
      }
      if (macro.parameters.size() == kNamedArguments) {
        tokens_.fail(fmt::format("a macro with more than the limit of {} parameters", kNamedArguments), line);
      }
      macro.parameters.push_back(std::move(parameter));
    }
    tokens_.expect_operator(")");
  }

  void macro_body(MacroDefinition& macro, std::string_view end) {
    const MacroNames outside = expressions_.names_read();
    expressions_.names_read() = {};
    macro.body = detached_block(end);
    MacroNames& names = expressions_.names_read();
    macro.uses_varargs = names.varargs;
    macro.uses_kwargs = names.kwargs;
    macro.uses_caller = names.caller;
    names = {outside.varargs || names.varargs, outside.kwargs || names.kwargs, outside.caller || names.caller};
  }

  // A body that runs as a function of its own, so that no loop outside can be left from within.
  Body detached_block(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Body body = block_to(end);
    loops_ = loops;
    return body;
  }

  FilterBlock filter_block() {
    ExpressionPtr filter = expressions_.filters_of_block(true);
    Body body = block_to("endfilter");
    return {std::move(filter), std::move(body)};
  }

  With with_statement() {
    With result;
    while (!tokens_.at(TokenKind::kBlockEnd)) {
      if (!result.targets.empty()) tokens_.expect_operator(",");
      result.targets.push_back(target(false, {}));
      tokens_.expect_operator("=");
      result.values.push_back(expressions_.expression());
    }
    result.body = block_to("endwith");
    return result;
  }

  Output print_statement() {
    Output result;
    while (!tokens_.at(TokenKind::kBlockEnd)) {
      if (!result.values.empty()) tokens_.expect_operator(",");
      result.values.push_back(expressions_.expression());
    }
    return result;
  }

  std::string target_name(bool within_loop_target) {
    const Token token = tokens_.expect(TokenKind::kName, "a name to assign to");
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
      if (token.text == constant) tokens_.fail(fmt::format("'{}' cannot be assigned to", constant), token.line);
    }
    if (token.text == "loop" && (open_loops_ > 0 || within_loop_target)) {
      tokens_.fail("the variable 'loop' cannot be assigned to inside a loop", token.line);
    }
    return token.text;
  }

  Target single_target(bool with_attributes, bool of_loop) {
    if (tokens_.take_operator("(")) {
      Target inner = target(with_attributes, {});
      tokens_.expect_operator(")");
      return inner;
    }
    Target result;
    result.name = target_name(of_loop);
    if (with_attributes && tokens_.take_operator(".")) {
      result.attribute = tokens_.expect(TokenKind::kName, "the name of an attribute").text;
    }
    return result;
  }

  // A target or several with commas between them. `ends`: of a loop's target, what follows it.
  Target target(bool with_attributes, Names ends) {
    if (++open_blocks_ > kSourceDepth) tokens_.fail(fmt::format("targets nest deeper than the limit of {} levels", kSourceDepth));
    Target result;
    while (true) {
      if (!result.parts.empty() && at_target_end(ends)) break;
      result.parts.push_back(single_target(with_attributes, ends.size() > 0));
      if (!tokens_.take_operator(",")) break;
      result.tuple = true;
    }
    --open_blocks_;
    if (result.tuple) return result;
    Target only = std::move(result.parts.front());
    return only;
  }

  bool at_target_end(Names ends) const {
    return tokens_.at_operator(")") || tokens_.at_operator("=") || tokens_.at(TokenKind::kBlockEnd) || tokens_.at_any_name(ends);
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int open_blocks_ = 0;
  int loops_ = 0;       // loops that a break here could leave
  int open_loops_ = 0;  // loops around this place, macros between or not
};

}  // namespace

Body parse_template(std::string_view source, const std::string& where) {
  if (source.size() > kSourceLimit) {
    throw Error(ErrorCode::kBadInput, where,
                fmt::format("the chat template has {} bytes; the limit is {}", source.size(), kSourceLimit));
  }
  if (!is_valid_utf8(source)) throw Error(ErrorCode::kBadInput, where, "the chat template is not valid UTF-8");
  return Parser(source, where).run();
}

}  // namespace tritllm::jinja
