// Owns the ways to a grammar that are no JSON schema: a list of texts, a regular expression, a grammar in GBNF. What cannot be
// guaranteed is refused with its place, so that an answer is never less than what was asked for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sampling/byte_grammar.h"

namespace tritllm {

// One of these texts.
ByteGrammar choice_grammar(const std::vector<std::string>& texts);

// The texts that the expression matches as a whole. It may hold literals, '.', classes with ranges, \d \w \s and their opposites
// (of ASCII), the usual escapes, \xHH and \uHHHH, groups, '|', and the counts '*' '+' '?' '{m,n}', greedy or not; '^' at its
// beginning and '$' at its end. References, assertions and flags are refused. `where` names the text in errors.
ByteGrammar regex_grammar(std::string_view pattern, const std::string& where);

// llama.cpp's notation: rules "name ::= …", of which "root" is the whole text; literals, classes, '.', groups, '|', counts,
// comments. A rule that begins with itself is refused.
ByteGrammar gbnf_grammar(std::string_view text, const std::string& where);

}  // namespace tritllm
