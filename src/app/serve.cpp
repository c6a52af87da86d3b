// Owns `tritllm serve`: models behind HTTP until a signal ends it.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <thread>

#include "app/model_options.h"
#include "core/error.h"
#include "server/api_server.h"
#include "server/http_server.h"

namespace tritllm::app {
namespace {

constexpr uint32_t kMostSlots = 256;

struct Arguments {
  ModelArguments model;
  std::vector<std::string> models;
  std::string max_memory;
  server::HttpOptions http;
  server::GateOptions gate;
  uint32_t slots = 8, queued = 64, drain_seconds = 30;
};

std::atomic<int> signals_seen{0};
std::atomic<bool> serving{false};

// The first signal lets the answers end, a second one does not.
void on_signal(int number) {
  if (signals_seen.fetch_add(1) > 0 || !serving) ::_exit(128 + number);
}

void watch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

// "NAME=PATH", or a path whose last part is the name.
server::ModelName model_name(const std::string& text) {
  const size_t equals = text.find('=');
  std::error_code unreadable;  // loading says what is wrong with the path
  if (equals != text.npos && equals > 0 && !std::filesystem::exists(text, unreadable)) {
    return {text.substr(0, equals), text.substr(equals + 1)};
  }
  const std::filesystem::path path = std::filesystem::path(text).lexically_normal();
  const std::string last = path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
  return {last.ends_with(".gguf") ? last.substr(0, last.size() - 5) : last, text};
}

LanguageModel load(const Arguments& arguments, const std::filesystem::path& path) {
  ModelArguments one = arguments.model;
  one.model = path.string();
  return load_model(one);
}

void report(const std::exception& problem) {
  const auto* const own = dynamic_cast<const Error*>(&problem);
  print_message("error: " + (own != nullptr ? error_text(*own) : printable(problem.what())));
}

void check(const Arguments& arguments) {
  if (arguments.http.certificate.empty() != arguments.http.key.empty()) {
    throw Error(ErrorCode::kUsage, "--tls-certificate", "needs --tls-key, and the other way round");
  }
}

int serve(const Arguments& arguments) {
  check(arguments);
  std::vector<server::ModelName> names;
  for (const std::string& text : arguments.models) names.push_back(model_name(text));
  server::PoolOptions options = {
      .engine = {.slots = arguments.slots, .cache = cache_type(arguments.model), .queued = arguments.queued},
      .context = arguments.model.context,
      .on_problem = report};
  if (!arguments.max_memory.empty()) options.max_memory = parse_bytes(arguments.max_memory, "--max-memory");
  server::ModelPool models(
      std::move(names), [&](const std::filesystem::path& path) { return load(arguments, path); }, options);
  server::ApiServer api(models, arguments.gate);
  // Before the weights are read: a port that is taken is told at once.
  server::HttpServer http(arguments.http, api);
  watch_signals();
  http.start();
  models.start();
  serving = true;
  const char* const scheme = arguments.http.certificate.empty() ? "http" : "https";
  const bool brackets = arguments.http.address.find(':') != std::string::npos;
  const std::string address =
      fmt::format("{}://{}{}{}:{}", scheme, brackets ? "[" : "", arguments.http.address, brackets ? "]" : "", http.port());
  if (arguments.model.common.json) print_json({{"address", address}, {"port", http.port()}});
  else print(fmt::format("{}\n", address));
  while (signals_seen == 0) std::this_thread::sleep_for(kStopInterval);
  if (!arguments.model.common.quiet) print_message("shutting down; a second signal ends the answers that are open");
  api.begin_drain();
  if (!http.drain(std::chrono::seconds(arguments.drain_seconds)) && !arguments.model.common.quiet) {
    print_message(fmt::format("some answers were cut after {} seconds", arguments.drain_seconds));
  }
  return 0;
}

}  // namespace

RunCommand register_serve(CLI::App& app) {
  auto* const command = app.add_subcommand("serve", "Answer requests over HTTP: the routes of OpenAI and Ollama, and a chat page");
  const auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("-m,--model", arguments->models,
                   "NAME=PATH, or a path: packed folder, Hugging Face folder or GGUF file; may be repeated")
      ->envname("TRITLLM_MODEL")
      ->allow_extra_args(false)
      ->required();
  add_option(*command, "--host", arguments->http.address, "The IP address to listen on; 0.0.0.0: all networks", "HOST");
  add_option(*command, "--port", arguments->http.port, "0: any free one, which is printed", "PORT");
  add_option(*command, "--slots", arguments->slots, "This many answers at a time; further requests wait", "SLOTS")
      ->check(CLI::Range(1u, kMostSlots));
  add_option(*command, "--queue", arguments->queued, "This many requests may wait; further ones get status 503", "QUEUE")
      ->check(CLI::Range(1u, 1u << 20));
  add_option(*command, "--shutdown-timeout", arguments->drain_seconds, "Seconds that open answers have after a signal",
             "SHUTDOWN_TIMEOUT");
  add_option(*command, "--max-memory", arguments->max_memory,
             "Weights and caches together, e.g. 12G: models are loaded when they are asked for, and the one that was asked for "
             "least recently makes room. Without it all are loaded at the start",
             "MAX_MEMORY");
  command->add_option("--api-key-file", arguments->gate.key_file, "Keys that clients may use, one a line");
  command->add_option("--allow-host", arguments->gate.hosts,
                      "A name under which this server may be called, besides localhost and IP addresses");
  command->add_option("--allow-origin", arguments->gate.origins,
                      "A site whose pages may call this server, e.g. https://chat.example.org");
  command->add_option("--tls-certificate", arguments->http.certificate, "PEM file: the certificate, then those that vouch for it");
  command->add_option("--tls-key", arguments->http.key, "PEM file: the certificate's private key");
  add_device_options(*command, arguments->model);
  add_option(*command, "-c,--context", arguments->model.context,
             fmt::format("Tokens of prompt and answer together; 0: the model's own, at most {}", kUsualContext), "CONTEXT");
  return [arguments] { return serve(*arguments); };
}

}  // namespace tritllm::app
