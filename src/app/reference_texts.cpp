#include "app/reference_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace tritllm::app {
namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// Those with a name: neither positional arguments nor, since every command has it, --help.
std::vector<const CLI::Option*> options_of(const CLI::App& command) {
  std::vector<const CLI::Option*> options;
  for (const CLI::Option* const option : command.get_options()) {
    if (!option->get_lnames().empty() && option != command.get_help_ptr()) options.push_back(option);
  }
  return options;
}

std::vector<const CLI::Option*> positionals_of(const CLI::App& command) {
  return command.get_options([](const CLI::Option* option) { return option->get_positional(); });
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

// "-m", "--model".
std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

std::string all_names(const CLI::App& command) {
  std::string text;
  for (const CLI::Option* const option : options_of(command)) {
    for (const std::string& name : names_of(*option)) text += fmt::format("{} ", name);
  }
  return text + "--help";
}

std::string command_names(const CLI::App& app) {
  std::string text = "help";
  for (const CLI::App* const command : commands_of(app)) text += " " + command->get_name();
  return text;
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + with.size())) text.replace(at, what.size(), with);
  return text;
}

// Between single quotes of a POSIX shell or of zsh.
std::string in_quotes(const std::string& text) { return "'" + replaced(text, "'", "'\\''") + "'"; }

std::string bash_completion(const CLI::App& app) {
  std::string cases;
  for (const CLI::App* const command : commands_of(app)) {
    cases += fmt::format("    {}) names='{}' ;;\n", command->get_name(), all_names(*command));
  }
  return fmt::format(
      "# Completion of tritllm for bash, made by 'tritllm completions bash'.\n"
      "_tritllm() {{\n"
      "  local current=${{COMP_WORDS[COMP_CWORD]}} names=\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    COMPREPLY=($(compgen -W '{0} --help --version' -- \"$current\"))\n"
      "    return\n"
      "  fi\n"
      "  case ${{COMP_WORDS[1]}} in\n"
      "    help) COMPREPLY=($(compgen -W '{0}' -- \"$current\")); return ;;\n"
      "{1}"
      "  esac\n"
      "  if [[ $current == -* ]]; then COMPREPLY=($(compgen -W \"$names\" -- \"$current\")); fi\n"
      "}}\n"
      "complete -o default -F _tritllm tritllm\n",
      command_names(app), cases);
}

std::string zsh_completion(const CLI::App& app) {
  std::string descriptions, cases;
  for (const CLI::App* const command : commands_of(app)) {
    descriptions += "  " + in_quotes(fmt::format("{}:{}", command->get_name(), command->get_description())) + "\n";
    cases += fmt::format("  {})\n    _arguments", command->get_name());
    for (const CLI::Option* const option : options_of(*command)) {
      const std::string help = replaced(replaced(option->get_description(), "[", "\\["), "]", "\\]");
      for (const std::string& name : names_of(*option)) {
        cases += " \\\n      " + in_quotes(fmt::format("{}[{}]{}", name, help, takes_value(*option) ? ":value:_files" : ""));
      }
    }
    cases += " \\\n      '*:file:_files' ;;\n";
  }
  return fmt::format(
      "#compdef tritllm\n"
      "# Completion of tritllm for zsh, made by 'tritllm completions zsh'.\n"
      "local -a commands\n"
      "commands=(\n  'help:Describe a command'\n{})\n"
      "if (( CURRENT == 2 )); then\n  _describe command commands\n  return\nfi\n"
      "shift words\n"
      "(( CURRENT-- ))\n"
      "case $words[1] in\n  help) _describe command commands ;;\n{}esac\n",
      descriptions, cases);
}

std::string fish_completion(const CLI::App& app) {
  const auto quoted = [](const std::string& text) { return "'" + replaced(replaced(text, "\\", "\\\\"), "'", "\\'") + "'"; };
  std::string text =
      "# Completion of tritllm for fish, made by 'tritllm completions fish'.\n"
      "complete -c tritllm -n __fish_use_subcommand -f -a help -d 'Describe a command'\n";
  for (const CLI::App* const command : commands_of(app)) {
    text += fmt::format("complete -c tritllm -n __fish_use_subcommand -f -a {} -d {}\n", command->get_name(),
                        quoted(command->get_description()));
  }
  for (const CLI::App* const command : commands_of(app)) {
    for (const CLI::Option* const option : options_of(*command)) {
      text += fmt::format("complete -c tritllm -n '__fish_seen_subcommand_from {}'", command->get_name());
      for (const std::string& name : option->get_snames()) text += " -s " + name;
      for (const std::string& name : option->get_lnames()) text += " -l " + name;
      text += fmt::format("{} -d {}\n", takes_value(*option) ? " -r" : "", quoted(option->get_description()));
    }
  }
  return text;
}

// A text for troff: no dash that becomes a hyphen, no line that begins with a request.
std::string troff(const std::string& text) {
  const std::string escaped = replaced(replaced(text, "\\", "\\e"), "-", "\\-");
  return escaped.starts_with('.') || escaped.starts_with('\'') ? "\\&" + escaped : escaped;
}

std::string manual_of(const CLI::App& command) {
  std::string synopsis = "tritllm " + command.get_name();
  for (const CLI::Option* const positional : positionals_of(command)) {
    synopsis += (positional->get_required() ? " {}" : " [{}]");
    synopsis.replace(synopsis.find("{}"), 2, positional->get_name());
  }
  std::string text = fmt::format(".SS {}\n{}.\n", troff(synopsis + " [OPTIONS]"), troff(command.get_description()));
  for (const CLI::Option* const positional : positionals_of(command)) {
    text += fmt::format(".TP\n.I {}\n{}.\n", troff(positional->get_name()), troff(positional->get_description()));
  }
  for (const CLI::Option* const option : options_of(command)) {
    std::string names;
    for (const std::string& name : names_of(*option)) names += (names.empty() ? "" : ", ") + name;
    if (takes_value(*option)) names += " " + option->get_type_name();
    text += fmt::format(".TP\n.B {}\n{}.", troff(names), troff(option->get_description()));
    if (!option->get_default_str().empty()) text += fmt::format(" Default: {}.", troff(option->get_default_str()));
    text += fmt::format(" Environment: {}.\n", troff(option->get_envname()));
  }
  return text;
}

std::string manual(const CLI::App& app) {
  std::string text = fmt::format(
      ".\\\" Made by 'tritllm manual' from the definitions of the options.\n"
      ".TH TRITLLM 1 \"\" \"tritllm {}\"\n"
      ".SH NAME\ntritllm \\- balanced ternary language models: quantise them, run them\n"
      ".SH SYNOPSIS\n.B tritllm\n.I COMMAND\n[\\fIOPTIONS\\fR]\n.br\n.B tritllm help\n[\\fICOMMAND\\fR]\n"
      ".SH DESCRIPTION\n"
      "Results go to standard output, everything else to standard error. Every option can also be set in the environment; a flag "
      "on "
      "the command line wins.\n"
      ".SH COMMANDS\n",
      TRITLLM_VERSION);
  for (const CLI::App* const command : commands_of(app)) text += manual_of(*command);
  return text +
         ".SH EXIT STATUS\n0: done. 1: failure, described in one line. 2: wrong usage. 130: ended by an interrupt (Ctrl\\-C).\n"
         ".SH ENVIRONMENT\n.TP\n.B TRITLLM_ISA\nForces an instruction set (scalar, avx2, avx512, avx512vbmi, amx, neon); one that "
         "the "
         "machine lacks is refused.\n";
}

}  // namespace

RunCommand register_completions(CLI::App& app) {
  auto* const command = app.add_subcommand("completions", "Print the completion script of a shell: bash, zsh or fish");
  const auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  return [&app, shell] {
    print(*shell == "bash" ? bash_completion(app) : *shell == "zsh" ? zsh_completion(app) : fish_completion(app));
    return 0;
  };
}

RunCommand register_manual(CLI::App& app) {
  app.add_subcommand("manual", "Print the manual page, for man(1)");
  return [&app] {
    print(manual(app));
    return 0;
  };
}

}  // namespace tritllm::app
