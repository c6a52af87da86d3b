#include "server/generation_fields.h"

#include <fmt/format.h>

#include <charconv>
#include <random>

#include "server/api_error.h"

namespace tritllm::server {
namespace {

uint64_t random_number() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

std::vector<LogitBias> read_biases(const JsonView& biases) {
  constexpr size_t kMostBiases = 4'096;
  if (biases.json().size() > kMostBiases) biases.refuse(fmt::format("at most {} tokens", kMostBiases));
  std::vector<LogitBias> entries;
  for (const auto& [name, value] : biases.members()) {
    LogitBias entry;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), entry.token);
    if (error != std::errc() || end != name.data() + name.size()) biases.refuse("token ids as keys");
    entry.bias = static_cast<float>(value.number(-double{kLargestLogitBias}, double{kLargestLogitBias}));
    entries.push_back(entry);
  }
  return entries;
}

std::vector<std::string> read_texts(const JsonView& value) {
  if (value.json().is_string()) return {value.text()};
  std::vector<std::string> texts;
  for (const JsonView& item : value.items()) texts.push_back(item.text());
  return texts;
}

void read_sampler(const JsonView& request, SamplerOptions& options) {
  for (const SamplerField& field : sampler_fields()) {
    const auto value = request.optional_child(field.name);
    if (value) set_sampler_value(options, field, json_line(value->json()));
  }
  if (const auto value = request.optional_child("repetition_penalty")) {
    if (request.has("repeat_penalty")) value->refuse("either this or repeat_penalty");
    set_sampler_value(options, *find_sampler_field("repeat_penalty"), json_line(value->json()));
  }
  if (const auto biases = request.optional_child("logit_bias")) options.logit_bias = read_biases(*biases);
  const auto seed = request.optional_child("seed");
  options.seed = seed ? seed->json().get<uint64_t>() : random_number();
}

}  // namespace

FieldTable generation_fields() {
  FieldTable table = sampling_fields();
  table.push_back({"stop", FieldType::kTexts, "Texts at which the answer ends; not part of it.", 0, 256});
  table.push_back(
      {"max_tokens", FieldType::kInteger, "Tokens of the answer at most; without it, the context's end.", 0, 4294967295.0});
  table.push_back({"ignore_eos", FieldType::kBoolean, "Continues past the model's end tokens."});
  return table;
}

GenerationRequest read_generation(const JsonView& request, const ServedModel& model) {
  GenerationRequest generation;
  generation.sampler = model.language.defaults().sampler;
  read_sampler(request, generation.sampler);
  if (const auto stop = request.optional_child("stop")) generation.stops = read_texts(*stop);
  if (const auto most = request.optional_integer("max_tokens", 0, UINT32_MAX)) generation.max_tokens = static_cast<uint32_t>(*most);
  generation.ignore_end_tokens = request.optional_boolean("ignore_eos").value_or(false);
  return generation;
}

std::vector<GenerationRequest> repeated(GenerationRequest request, size_t count) {
  std::vector<GenerationRequest> all(count, request);
  for (size_t i = 0; i < count; ++i) {
    all[i].sampler.seed += i;
    if (all[i].constraint) all[i].constraint = all[i].constraint->fresh();
  }
  return all;
}

std::string new_id(std::string_view prefix) {
  return fmt::format("{}-{:016x}{:08x}", prefix, random_number(), random_number() >> 32);
}

}  // namespace tritllm::server
