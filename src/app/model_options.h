// Owns the options of the subcommands that run a model, and their way into LoadOptions and SamplerOptions.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/command.h"
#include "engine/language_model.h"

namespace tritllm::app {

struct ModelArguments {
  CommonOptions common;
  std::string model, device = "cpu", cache = "f16", activations = "int8";
  uint32_t context = 0;
};

// Adds --device, --activations and --kv-cache to what add_common_options() adds.
void add_device_options(CLI::App& command, ModelArguments& arguments);
// Adds --model and --context as well.
void add_model_options(CLI::App& command, ModelArguments& arguments);

CacheType cache_type(const ModelArguments& arguments);
Arithmetic arithmetic(const ModelArguments& arguments);

// Loads it and says on standard error what was loaded, unless --quiet.
LanguageModel load_model(const ModelArguments& arguments);

// What the user gave overrides what the model's files say.
struct SamplingArguments {
  std::optional<float> temperature, top_p, min_p, typical_p, repeat_penalty, presence_penalty, frequency_penalty;
  std::optional<uint32_t> top_k, penalty_window;
  std::optional<uint64_t> seed;
  std::vector<std::string> logit_biases;  // "TOKEN=BIAS"
};

void add_sampling_options(CLI::App& command, SamplingArguments& arguments);

// Without --seed, one that differs from run to run.
SamplerOptions sampler_options(const SamplingArguments& arguments, const GenerationDefaults& defaults);

// Another one each time.
uint64_t seed_of_the_moment();

// "temperature 0.8, top_k 40, …": what is in force.
std::string sampler_text(const SamplerOptions& options);

// The contents of --file, or of standard input for "-".
std::string read_text(const std::string& path);

// Set by the first interrupt (Ctrl-C) once watch_interrupts() has been called; the second one ends the program.
void watch_interrupts();
bool interrupted() noexcept;

}  // namespace tritllm::app
