#include "app/model_options.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <charconv>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "app/progress_bar.h"
#include "core/error.h"
#include "core/file.h"
#include "core/utf8.h"

namespace tritllm::app {

namespace {

constexpr uint64_t kLargestText = uint64_t{256} << 20;  // as much as a tokenizer takes

std::atomic<bool> interrupt_seen{false};

void on_interrupt(int) {
  if (interrupt_seen.exchange(true)) ::_exit(kInterruptedStatus);
}

// What says how a token is drawn from a row of logits (sampling/draw.h), without penalties and biases.
constexpr std::array<std::string_view, 5> kDrawFields{"temperature", "top_k", "typical_p", "top_p", "min_p"};

void add_sampler_number(CLI::App& command, const SamplerField& field, SamplingArguments& arguments, const std::string& group) {
  std::string flag = sampler_flag(field), help(field.help);
  if (field.name == "temperature") flag += ",--temp";
  help[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(help[0])));
  const auto take = [&arguments, &field](const std::string& text) {
    try {
      SamplerOptions trial;
      set_sampler_value(trial, field, text);
    } catch (const Error& error) {
      throw flag_error(error);
    }
    arguments.numbers.emplace_back(&field, text);
  };
  command.add_option_function<std::string>(flag, take, help)->type_name("NUMBER")->group(group);
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

// As text files are read: each line ends in "\n", whatever machine the file comes from.
std::string with_plain_line_ends(const std::string& text) {
  std::string plain;
  plain.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') plain += text[i];
    else if (i + 1 == text.size() || text[i + 1] != '\n') plain += '\n';
  }
  return plain;
}

void require_utf8(std::string_view text, const std::string& where) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_sequence_length(text.substr(at));
    if (length == 0) throw Error(ErrorCode::kBadInput, where, fmt::format("byte {}: expected valid UTF-8", at));
    at += length;
  }
}

}  // namespace

void add_device_options(CLI::App& command, ModelArguments& arguments) {
  add_option(command, "--device", arguments.device,
             "Where to compute: cpu, cuda, cuda:N, or auto: a CUDA device that has room, else the CPU", "DEVICE");
  add_option(command, "--activations", arguments.activations,
             "Products with ternary matrices: int8, activations in 8 bits (13 at depth 1), or f32, exact and many times slower",
             "ACTIVATIONS")
      ->check(CLI::IsMember({"int8", "f32"}));
  add_option(command, "--kv-cache", arguments.cache,
             "Type of the key/value cache: f16, f32, or fp8 and int8, which take about half of f16's memory", "KV_CACHE")
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(kCacheTypeNames), std::end(kCacheTypeNames))));
  add_common_options(command, arguments.common);
}

void add_model_option(CLI::App& command, ModelArguments& arguments) {
  command.add_option("-m,--model", arguments.model, "Packed folder, Hugging Face folder or GGUF file")
      ->envname("TRITLLM_MODEL")
      ->required();
  add_device_options(command, arguments);
}

void add_model_options(CLI::App& command, ModelArguments& arguments) {
  add_model_option(command, arguments);
  add_option(command, "-c,--context", arguments.context,
             fmt::format("Tokens of prompt and answer together; 0: the model's own, at most {}", kUsualContext), "CONTEXT");
}

CacheType cache_type(const ModelArguments& arguments) { return cache_type_named(arguments.cache).value(); }

Arithmetic arithmetic(const ModelArguments& arguments) {
  return arguments.activations == "f32" ? Arithmetic::kFloat : Arithmetic::kInteger;
}

LanguageModel load_model(const ModelArguments& arguments) {
  std::optional<LoadingLine> line(std::in_place, arguments.model, arguments.common.quiet);
  LanguageModel model =
      LanguageModel::load(arguments.model, {.device = arguments.device,
                                            .arithmetic = arithmetic(arguments),
                                            .threads = arguments.common.threads,
                                            .context = arguments.context,
                                            .on_progress = [&](uint64_t done, uint64_t total) { line->show(done, total); }});
  line.reset();
  if (arguments.common.quiet) return model;
  for (const std::string& warning : model.warnings()) print_message("warning: " + printable(warning));
  print_message(fmt::format("{} on {}: {} of weights a token, context {}", printable(arguments.model),
                            model.model().backend().description(), readable_bytes(model.model().weight_bytes_per_token()),
                            model.model().limits().positions));
  return model;
}

void add_draw_options(CLI::App& command, SamplingArguments& arguments) {
  for (const SamplerField& field : sampler_fields()) {
    if (std::ranges::find(kDrawFields, field.name) != kDrawFields.end()) {
      add_sampler_number(command, field, arguments, "Drawing (default: the most likely token)");
    }
  }
}

DrawSettings draw_settings(const SamplingArguments& arguments) {
  SamplerOptions options;
  options.temperature = 0;
  for (const auto& [field, text] : arguments.numbers) set_sampler_value(options, *field, text);
  return {.temperature = options.temperature,
          .top_k = options.top_k,
          .typical_p = options.typical_p,
          .top_p = options.top_p,
          .min_p = options.min_p};
}

void add_sampling_options(CLI::App& command, SamplingArguments& arguments) {
  const std::string group = "Sampling (default: the model's generation_config.json)";
  for (const SamplerField& field : sampler_fields()) add_sampler_number(command, field, arguments, group);
  command.add_option("--seed", arguments.seed, "Seed of the draws; without it, another one each time")->group(group);
  command.add_option("--logit-bias", arguments.logit_biases, "TOKEN=BIAS, added to a token's logit; may be repeated")
      ->allow_extra_args(false)
      ->group(group);
}

SamplerOptions sampler_options(const SamplingArguments& arguments, const GenerationDefaults& defaults) {
  SamplerOptions options = defaults.sampler;
  for (const auto& [field, text] : arguments.numbers) set_sampler_value(options, *field, text);
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
  const bool penalised = options.repeat_penalty != 1.0f || options.presence_penalty != 0.0f || options.frequency_penalty != 0.0f;
  std::string text;
  for (const SamplerField& field : sampler_fields()) {
    const bool always = field.name == "temperature", idle = field.name == "penalty_window" && !penalised;
    if (idle || (!always && sampler_value(options, field) == field.off)) continue;
    text += fmt::format("{} {}, ", field.name, sampler_value_text(options, field));
  }
  return text + fmt::format("seed {}", options.seed);
}

void add_template_options(CLI::App& command, TemplateArguments& arguments) {
  command.add_option("--system", arguments.system, "A system message before the conversation");
  command
      .add_option("--template-var", arguments.variables,
                  "NAME=VALUE for the model's chat template, such as enable_thinking=false; may be repeated")
      ->allow_extra_args(false);
}

void require_template_variable(std::string_view name, const LanguageModel& model, std::string_view where) {
  if (!name.empty() && model.chat_templates().default_source().find(name) != std::string_view::npos) return;
  throw Error(ErrorCode::kUsage, where, fmt::format("the model's chat template has no variable '{}'", printable(name, 60)));
}

std::pair<std::string, Json> template_variable(std::string_view text, const LanguageModel& model, std::string_view where) {
  const size_t equals = text.find('=');
  if (equals == text.npos || equals == 0) {
    throw Error(ErrorCode::kUsage, where, fmt::format("expected NAME=VALUE, found '{}'", printable(text, 60)));
  }
  std::string name(text.substr(0, equals)), value(text.substr(equals + 1));
  require_template_variable(name, model, where);
  Json parsed = Json::parse(value, nullptr, /*allow_exceptions=*/false);
  return {std::move(name), parsed.is_discarded() ? Json(std::move(value)) : std::move(parsed)};
}

Json template_variables(const TemplateArguments& arguments, const LanguageModel& model) {
  Json variables = Json::object();
  for (const std::string& text : arguments.variables) {
    auto [name, value] = template_variable(text, model, "--template-var");
    variables[name] = std::move(value);
  }
  return variables;
}

std::string read_text(const std::string& path) {
  std::string text = path == "-" ? read_stream(STDIN_FILENO, kLargestText, "standard input") : read_text_file(path, kLargestText);
  require_utf8(text, path == "-" ? "standard input" : path);
  return text.find('\r') == text.npos ? text : with_plain_line_ends(text);
}

void watch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
}

bool interrupted() noexcept { return interrupt_seen.load(); }

}  // namespace tritllm::app
