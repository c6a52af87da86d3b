// Writes the inputs that the fuzz target of chat templates starts from: chat_template_seeds FOLDER. They are the templates of the
// tests, which use what real models' templates use, and small ones for the rest of the language.
#include <array>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "core/file.h"

namespace {

constexpr std::array kSnippets = {
    "{{ 'a b'.split()[::-1]|join('-') ~ 1.5e3 // 2 ** 3 % 7 }}",
    "{% for k, v in {'a': [1, (2,)]}|dictsort if v is sequence recursive %}{{ loop.index ~ loop.last }}{% else %}{% endfor %}",
    "{% set ns = namespace(x=[]) %}{% for i in range(9, 0, -2) %}{% set ns.x = ns.x + [i] %}{% continue %}{% endfor %}{{ "
    "ns.x|tojson(indent=2) }}",
    "{% macro m(a, b=2) %}{{ caller(a) }}{{ varargs }}{{ kwargs }}{% endmacro %}{% call(x) m(*[1, 2, 3], **{'c': 4}) %}{{ x }}{% "
    "endcall %}",
    "{% filter upper|replace('A', 'b') %}{% raw %}{{ a }}{% endraw %}{% endfilter %}{#- c -#}{% set y | trim %} z {% endset %}{{ y "
    "}}",
    "{{ messages|selectattr('role', 'in', ['user'])|map(attribute='content')|list|length }}{{ '%5.2f|%(a)s' % {'a': 1} }}",
    "{{ '{:>8}{!r}'.format('x', [1]) }}{{ [3, 1]|sort(reverse=true)|batch(2, 0)|list }}{{ messages|groupby('role')|list|length }}",
    "{{ (messages[0].content|string)[2:-1]|title|indent(2)|truncate(9, true, '…')|e }}{{ strftime_now('%d %b %Y') }}"};

void write(const std::filesystem::path& path, const std::string& text) { std::ofstream(path) << text; }

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    const std::filesystem::path folder = argv[1];
    std::filesystem::create_directories(folder);
    for (size_t i = 0; i < kSnippets.size(); ++i) write(folder / ("snippet" + std::to_string(i)), kSnippets[i]);
    for (const auto& entry : std::filesystem::directory_iterator(TRITLLM_CHAT_TEMPLATES)) {
      write(folder / entry.path().filename(), tritllm::read_text_file(entry.path().string()));
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
