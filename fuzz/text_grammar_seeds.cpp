// Writes the inputs from which fuzzing of regular expressions and grammars starts: each kind of part, with a walk of four bytes.
#include <array>
#include <cstdio>
#include <filesystem>
#include <string>

#include "core/file.h"

int main(int count, char** arguments) {
  if (count != 2) {
    std::fputs("usage: text_grammar_seeds FOLDER\n", stderr);
    return 2;
  }
  tritllm::create_folders(arguments[1]);
  const std::array<std::string, 8> texts = {
      "(a|b)*abb",
      "^[A-Z][^\\d\\n]{2,5}(?:\\.\\w+)?$",
      "(?P<year>\\d{4})-\\u00e9\\x41+?|.*",
      "((a?){3}[\\]\\-b-e])*",
      "root ::= (expr \"=\" ws num \"\\n\")+\nexpr ::= num ([-+] num)*\nnum ::= [0-9]+ ws\nws ::= [ \\t]*",
      "root ::= \"a\" root | \"b\"{2,3} # end\n",
      "root ::= x\nx ::= [^\\\"\\U0001F600] . y?\ny ::= \"\\u00e9\" | (\n\"z\"\n)",
      "root ::= root \"a\" | \"b\""};
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string input = std::string(1, i < 4 ? '\0' : '\1') + "\4" + "\1\7\3\5" + texts[i];
    tritllm::write_file_atomically(std::filesystem::path(arguments[1]) / ("seed_" + std::to_string(i)), input);
  }
  return 0;
}
