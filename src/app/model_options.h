// Owns the options of the subcommands that run a model, and their way into LoadOptions, SamplerOptions and template variables.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/command.h"
#include "engine/language_model.h"

namespace tritllm::app {

struct ModelArguments {
  CommonOptions common;
  std::string model, device = "auto", cache = "f16", activations = "int8";
  uint32_t context = 0;
};

// Adds --device, --activations and --kv-cache to what add_common_options() adds.
void add_device_options(CLI::App& command, ModelArguments& arguments);
// Adds --model as well.
void add_model_option(CLI::App& command, ModelArguments& arguments);
// Adds all of them and --context.
void add_model_options(CLI::App& command, ModelArguments& arguments);

CacheType cache_type(const ModelArguments& arguments);
Arithmetic arithmetic(const ModelArguments& arguments);

// Loads it, and says on standard error what was loaded, unless --quiet.
LanguageModel load_model(const ModelArguments& arguments);

// What the user gave overrides what the model's files say.
struct SamplingArguments {
  std::vector<std::pair<const SamplerField*, std::string>> numbers;  // each of its field's range
  std::optional<uint64_t> seed;
  std::vector<std::string> logit_biases;  // "TOKEN=BIAS"
};

void add_sampling_options(CLI::App& command, SamplingArguments& arguments);

// The numbers that say how a token is drawn, without penalties and seed: for commands that measure.
void add_draw_options(CLI::App& command, SamplingArguments& arguments);

// Greedy unless a temperature is given.
DrawSettings draw_settings(const SamplingArguments& arguments);

// Without --seed, one that differs from run to run.
SamplerOptions sampler_options(const SamplingArguments& arguments, const GenerationDefaults& defaults);

// Another one each time.
uint64_t seed_of_the_moment();

// "temperature 0.8, top_k 40, …": the settings in force.
std::string sampler_text(const SamplerOptions& options);

// What a chat template is given besides the messages.
struct TemplateArguments {
  std::string system;
  std::vector<std::string> variables;  // "NAME=VALUE"
};

// Adds --system and --template-var.
void add_template_options(CLI::App& command, TemplateArguments& arguments);

// "NAME=VALUE": VALUE is JSON where it can be read so (false, 3, "text"), else a text. Throws an Error where the template of the
// model does not know the name; `where` names the option.
std::pair<std::string, Json> template_variable(std::string_view text, const LanguageModel& model, std::string_view where);
void require_template_variable(std::string_view name, const LanguageModel& model, std::string_view where);
Json template_variables(const TemplateArguments& arguments, const LanguageModel& model);

// The text of a file, or of standard input for "-"; each line ends in "\n", whatever machine it comes from. The limit of 256 MiB is
// applied while it is read.
std::string read_text(const std::string& path);

// Set by the first interrupt (Ctrl-C) once watch_interrupts() has been called; the second one ends the program.
void watch_interrupts();
bool interrupted() noexcept;

}  // namespace tritllm::app
