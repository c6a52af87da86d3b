#include "app/model_options.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cmath>
#include <iostream>
#include <iterator>
#include <random>

#include "core/error.h"
#include "core/file.h"

namespace tritllm::app {

namespace {

constexpr uint64_t kLargestText = uint64_t{1} << 30;
constexpr int kInterruptedStatus = 130;  // 128 + SIGINT, as shells count

std::atomic<bool> interrupt_seen{false};

void on_interrupt(int) {
  if (interrupt_seen.exchange(true)) ::_exit(kInterruptedStatus);
}

LogitBias parse_bias(const std::string& text) {
  const size_t equals = text.find('=');
  LogitBias bias;
  const auto [end, error] = std::from_chars(text.data(), text.data() + std::min(equals, text.size()), bias.token);
  char* number_end = nullptr;
  if (equals != text.npos) bias.bias = std::strtof(text.c_str() + equals + 1, &number_end);
  const bool number = equals != text.npos && number_end == text.c_str() + text.size() && equals + 1 < text.size();
  if (error != std::errc() || end != text.data() + equals || !number) {
    throw Error(ErrorCode::kUsage, "--logit-bias", fmt::format("expected TOKEN=BIAS, found '{}'", printable(text)));
  }
  return bias;
}

}  // namespace

void add_device_options(CLI::App& command, ModelArguments& arguments) {
  add_option(command, "--device", arguments.device, "Where to compute: cpu", "DEVICE");
  add_option(command, "--activations", arguments.activations,
             "Products with ternary matrices: int8, activations in 8 bits (13 at depth 1), or f32, exact and many times slower",
             "ACTIVATIONS")
      ->check(CLI::IsMember({"int8", "f32"}));
  add_option(command, "--kv-cache", arguments.cache, "Type of the key/value cache: f16 or f32", "KV_CACHE")
      ->check(CLI::IsMember({"f16", "f32"}));
  add_common_options(command, arguments.common);
}

void add_model_options(CLI::App& command, ModelArguments& arguments) {
  command.add_option("--model", arguments.model, "Packed folder, Hugging Face folder or GGUF file")
      ->envname("TRITLLM_MODEL")
      ->required();
  add_option(command, "--context", arguments.context,
             fmt::format("Tokens of prompt and answer together; 0: the model's own, at most {}", kUsualContext), "CONTEXT");
  add_device_options(command, arguments);
}

CacheType cache_type(const ModelArguments& arguments) {
  return arguments.cache == "f32" ? CacheType::kFloat32 : CacheType::kFloat16;
}

Arithmetic arithmetic(const ModelArguments& arguments) {
  return arguments.activations == "f32" ? Arithmetic::kFloat : Arithmetic::kInteger;
}

LanguageModel load_model(const ModelArguments& arguments) {
  LanguageModel model = LanguageModel::load(arguments.model, {.device = arguments.device,
                                                              .arithmetic = arithmetic(arguments),
                                                              .threads = arguments.common.threads,
                                                              .context = arguments.context});
  if (arguments.common.quiet) return model;
  for (const std::string& warning : model.warnings()) print_message("warning: " + printable(warning));
  print_message(fmt::format("{} on {}: {} of weights a token, context {}", printable(arguments.model),
                            model.model().backend().description(), readable_bytes(model.model().weight_bytes_per_token()),
                            model.model().limits().positions));
  return model;
}

void add_sampling_options(CLI::App& command, SamplingArguments& arguments) {
  const std::string group = "Sampling (default: the model's generation_config.json)";
  const auto add = [&](const std::string& flag, auto& value, const std::string& help, const std::string& environment) {
    command.add_option(flag, value, help)->envname("TRITLLM_" + environment)->group(group);
  };
  add("--temp,--temperature", arguments.temperature, "Temperature; 0 takes the most probable token", "TEMPERATURE");
  add("--top-k", arguments.top_k, "Draw among so many tokens; 0: all", "TOP_K");
  add("--top-p", arguments.top_p, "Draw among the most probable tokens that have this share", "TOP_P");
  add("--min-p", arguments.min_p, "Draw among tokens with this share of the largest probability", "MIN_P");
  add("--typical-p", arguments.typical_p, "Draw among the most typical tokens that have this share", "TYPICAL_P");
  add("--repeat-penalty", arguments.repeat_penalty, "Divide the scores of tokens that occurred", "REPEAT_PENALTY");
  add("--presence-penalty", arguments.presence_penalty, "Subtract from the scores of tokens that occurred", "PRESENCE_PENALTY");
  add("--frequency-penalty", arguments.frequency_penalty, "Subtract for each time that a token occurred", "FREQUENCY_PENALTY");
  add("--penalty-window", arguments.penalty_window, "The penalties look at so many of the last tokens", "PENALTY_WINDOW");
  add("--seed", arguments.seed, "Seed of the draws; without it, another one each time", "SEED");
  add("--logit-bias", arguments.logit_biases, "TOKEN=BIAS, added to a token's score; may be repeated", "LOGIT_BIAS");
}

SamplerOptions sampler_options(const SamplingArguments& arguments, const GenerationDefaults& defaults) {
  SamplerOptions options = defaults.sampler;
  const auto take = [](const auto& given, auto& value) {
    if (given) value = *given;
  };
  take(arguments.temperature, options.temperature);
  take(arguments.top_k, options.top_k);
  take(arguments.top_p, options.top_p);
  take(arguments.min_p, options.min_p);
  take(arguments.typical_p, options.typical_p);
  take(arguments.repeat_penalty, options.repeat_penalty);
  take(arguments.presence_penalty, options.presence_penalty);
  take(arguments.frequency_penalty, options.frequency_penalty);
  take(arguments.penalty_window, options.penalty_window);
  options.seed = arguments.seed ? *arguments.seed : seed_of_the_moment();
  for (const std::string& text : arguments.logit_biases) options.logit_bias.push_back(parse_bias(text));
  return options;
}

uint64_t seed_of_the_moment() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

std::string sampler_text(const SamplerOptions& options) {
  if (options.temperature == 0.0f) return "greedy";
  std::string text = fmt::format("temperature {}", options.temperature);
  if (options.top_k != 0) text += fmt::format(", top_k {}", options.top_k);
  if (options.top_p != 1.0f) text += fmt::format(", top_p {}", options.top_p);
  if (options.min_p != 0.0f) text += fmt::format(", min_p {}", options.min_p);
  if (options.typical_p != 1.0f) text += fmt::format(", typical_p {}", options.typical_p);
  if (options.repeat_penalty != 1.0f) text += fmt::format(", repeat_penalty {}", options.repeat_penalty);
  if (options.presence_penalty != 0.0f) text += fmt::format(", presence_penalty {}", options.presence_penalty);
  if (options.frequency_penalty != 0.0f) text += fmt::format(", frequency_penalty {}", options.frequency_penalty);
  return text + fmt::format(", seed {}", options.seed);
}

std::string read_text(const std::string& path) {
  if (path != "-") return read_text_file(path, kLargestText);
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  if (text.size() > kLargestText)
    throw Error(ErrorCode::kUsage, "standard input", fmt::format("holds more than {} bytes", kLargestText));
  return text;
}

void watch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
}

bool interrupted() noexcept { return interrupt_seen.load(); }

}  // namespace tritllm::app
