#include "app/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/command.h"
#include "app/option_names.h"
#include "app/reference_texts.h"
#include "core/error.h"
#include "kernels/kernel_table.h"

namespace tritllm::app {
namespace {

using Commands = std::vector<std::pair<std::string, RunCommand>>;

Commands register_commands(CLI::App& app) {
  return {{"quantize", register_quantize(app)}, {"pack", register_pack(app)},       {"dequantize", register_dequantize(app)},
          {"inspect", register_inspect(app)},   {"verify", register_verify(app)},   {"merge", register_merge(app)},
          {"run", register_run(app)},           {"chat", register_chat(app)},       {"serve", register_serve(app)},
          {"eval", register_eval(app)},         {"compare", register_compare(app)}, {"bench", register_bench(app)},
          {"tokenize", register_tokenize(app)}, {"devices", register_devices(app)}, {"completions", register_completions(app)},
          {"manual", register_manual(app)}};
}

// TRITLLM_MAX_MEMORY for --max-memory: of several long names the first.
void give_environment_twins(CLI::App& command) {
  for (CLI::Option* const option : command.get_options()) {
    if (option->get_lnames().empty() || option == command.get_help_ptr() || !option->get_envname().empty()) continue;
    std::string name = "TRITLLM_" + option->get_lnames().front();
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    option->envname(name);
  }
}

// The least number of letters to insert, drop, replace or swap with a neighbour that turns one word into the other.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

// The known word that was probably meant: a few letters off, or one that begins with what was typed.
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& known) {
  constexpr size_t kLongestWord = 64, kShortestBeginning = 3;
  if (word.size() > kLongestWord) return std::nullopt;
  std::optional<std::string> best;
  size_t best_distance = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const bool begins = word.size() >= kShortestBeginning && candidate.starts_with(word);
    const size_t distance = begins ? 1 : edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names{"help"};
  for (const CLI::App* const command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

std::vector<std::string> long_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* const option : command.get_options()) {
    names.insert(names.end(), option->get_lnames().begin(), option->get_lnames().end());
  }
  return names;
}

[[noreturn]] void refuse_command(const CLI::App& app, const std::string& word) {
  const auto guess = nearest(word, command_names(app));
  throw Error(ErrorCode::kUsage, printable(word, 60), "is not a command",
              guess ? fmt::format("did you mean '{}'?", *guess) : "'tritllm help' lists the commands");
}

// What was left over after the parser took what it knows.
[[noreturn]] void refuse_leftovers(const CLI::App& command, const std::vector<std::string>& leftovers, const std::string& help) {
  const auto option = std::ranges::find_if(leftovers, [](const std::string& word) { return word.size() > 1 && word[0] == '-'; });
  if (option == leftovers.end()) {
    throw Error(ErrorCode::kUsage, command.get_name(),
                fmt::format("unexpected argument '{}'", leftovers.empty() ? "" : printable(leftovers.front(), 60)),
                "quote a text that holds spaces; see '" + help + "'");
  }
  const std::string name = option->substr(0, option->find('='));
  const auto guess =
      nearest(std::string_view(name).substr(std::min(name.find_first_not_of('-'), name.size())), long_names(command));
  throw Error(ErrorCode::kUsage, printable(name, 60), fmt::format("is not an option of {}", command.get_name()),
              guess ? fmt::format("did you mean '--{}'? See '{}'", *guess, help) : "see '" + help + "'");
}

// Of what the command takes.
std::string advice_on_memory(const CLI::App& command) {
  for (const char* const option : {"--max-memory", "--context", "--tests"}) {
    if (command.get_option_no_throw(option) != nullptr) return fmt::format("use a smaller {}, or fewer --threads", option);
  }
  return "use fewer --threads, or free some memory";
}

// `tritllm help` and `tritllm help COMMAND`.
int show_help(CLI::App& app, const std::vector<std::string>& words) {
  if (words.empty()) {
    print(app.help());
    return 0;
  }
  const auto names = command_names(app);
  if (std::ranges::find(names, words[0]) == names.end()) refuse_command(app, words[0]);
  print(words[0] == "help" ? app.help() : app.get_subcommand(words[0])->help("tritllm"));
  return 0;
}

// Whether the answer was to be JSON, seen without the parser: a command line that cannot be parsed is an answer, too.
bool asks_for_json(const CLI::App& command, const std::vector<std::string>& words) {
  if (command.get_option_no_throw("--json") == nullptr) return false;
  if (std::ranges::find(words, "--json") != words.end()) return true;
  const char* const variable = std::getenv("TRITLLM_JSON");
  if (variable == nullptr) return false;
  try {
    return CLI::detail::to_flag_value(variable) > 0;
  } catch (const std::exception&) {
    return false;  // not a truth value, which is an error of its own
  }
}

constexpr size_t kLongestPart = 10'000;  // of an error, in JSON

// The answer of a command that failed: for verify the report of one problem, for the others {error}.
void print_failure(const std::string& command, const std::exception& failure) {
  const auto* const error = dynamic_cast<const Error*>(&failure);
  const auto text = [](const std::string& part) { return printable(with_flags(part), kLongestPart); };
  const std::string where = error != nullptr ? text(error->where()) : command;
  const std::string message = text(error != nullptr ? error->problem() : failure.what());
  const std::string remedy = error != nullptr ? text(error->remedy()) : "";
  if (command == "verify") {
    const Json problem = {{"file", where}, {"where", where}, {"message", message}};
    print_json({{"ok", false}, {"errors", Json::array({problem})}});
    return;
  }
  print_json({{"error", {{"where", where}, {"message", message}, {"remedy", remedy}}}});
}

// The exit status where the words only asked for help or for the version.
std::optional<int> parse_words(CLI::App& app, const CLI::App& command, const std::string& help, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return 0;
  } catch (const CLI::CallForVersion&) {
    print(app.version() + "\n");
    return 0;
  } catch (const CLI::ParseError& error) {
    const std::vector<std::string> leftovers = command.remaining();
    if (!leftovers.empty()) refuse_leftovers(command, leftovers, help);
    throw Error(ErrorCode::kUsage, command.get_name(), error.what(), "see '" + help + "'");
  }
  return std::nullopt;
}

int run_command(CLI::App& app, const CLI::App& command, const RunCommand& run, int argc, char** argv) {
  if (const auto status = parse_words(app, command, "tritllm help " + command.get_name(), argc, argv)) return *status;
  kernels::active_table();  // an instruction set that this machine lacks is refused whatever the command
  try {
    return run();
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::kIo, command.get_name(), "out of memory", advice_on_memory(command));
  }
}

}  // namespace

int run_program(int argc, char** argv) {
  CLI::App app{"tritllm: balanced ternary language models", "tritllm"};
  app.require_subcommand(1);
  app.set_version_flag("--version", fmt::format("tritllm {}", TRITLLM_VERSION));
  app.footer(
      "'tritllm help COMMAND' describes a command. Every option can also be set by an environment variable of its name, such as "
      "TRITLLM_THREADS. TRITLLM_ISA forces an instruction set.");
  const Commands commands = register_commands(app);
  for (CLI::App* const command : app.get_subcommands([](const CLI::App*) { return true; })) give_environment_twins(*command);

  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  if (words.empty()) throw Error(ErrorCode::kUsage, "tritllm", "expected a command", "'tritllm help' lists them");
  if (words[0] == "version") {
    print(app.version() + "\n");
    return 0;
  }
  if (words[0] == "help") return show_help(app, {words.begin() + 1, words.end()});
  const auto chosen = std::ranges::find(commands, words[0], &Commands::value_type::first);
  if (chosen == commands.end()) {
    if (!words[0].starts_with('-')) refuse_command(app, words[0]);
    if (const auto status = parse_words(app, app, "tritllm help", argc, argv)) return *status;
    refuse_command(app, words[0]);
  }
  const CLI::App& command = *app.get_subcommand(words[0]);
  try {
    return run_command(app, command, chosen->second, argc, argv);
  } catch (const std::exception& failure) {
    if (asks_for_json(command, words)) print_failure(words[0], failure);
    throw;
  }
}

}  // namespace tritllm::app
