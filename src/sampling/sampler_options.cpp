#include "sampling/sampler_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "core/error.h"

namespace tritllm {
namespace {

using Options = SamplerOptions;
constexpr double kLargestCount = std::numeric_limits<uint32_t>::max();

constexpr std::array kFields{
    SamplerField{"temperature", &Options::temperature, 0, 100, 1, "divides the logits; 0 takes the most probable token"},
    SamplerField{"top_k", &Options::top_k, 0, kLargestCount, 0, "keeps this many of the most probable tokens; 0 keeps all"},
    SamplerField{"typical_p", &Options::typical_p, 0, 1, 1, "keeps the most typical tokens that together have this probability"},
    SamplerField{"top_p", &Options::top_p, 0, 1, 1, "keeps the most probable tokens that together have this probability"},
    SamplerField{"min_p", &Options::min_p, 0, 1, 0, "keeps tokens of at least this fraction of the largest probability"},
    SamplerField{"repeat_penalty", &Options::repeat_penalty, 0.01, 100, 1,
                 "divides the positive logits of tokens that occurred, and multiplies the others"},
    SamplerField{"presence_penalty", &Options::presence_penalty, -100, 100, 0,
                 "is subtracted once from the logit of a token that occurred"},
    SamplerField{"frequency_penalty", &Options::frequency_penalty, -100, 100, 0,
                 "is subtracted from a token's logit for each time that it occurred"},
    SamplerField{"penalty_window", &Options::penalty_window, 0, kLargestCount, 0,
                 "the number of last tokens, prompt included, that the penalties look at"},
};

bool is_count(const SamplerField& field) noexcept { return std::holds_alternative<uint32_t SamplerOptions::*>(field.member); }

// A float's range ends at floats: 0.01 as a double is a little less than 0.01f.
bool in_range(const SamplerField& field, double value) noexcept {
  if (is_count(field)) return value >= field.least && value <= field.most;
  return value >= static_cast<float>(field.least) && value <= static_cast<float>(field.most);
}

[[noreturn]] void refuse(const SamplerField& field, std::string_view found) {
  const std::string_view kind = is_count(field) ? "a whole number" : "a number";
  throw Error(ErrorCode::kUsage, field.name,
              fmt::format("expected {} from {} to {}, found {}", kind, field.least, field.most, found));
}

void require_known_token(const LogitBias& entry, size_t vocabulary_size) {
  if (entry.token < vocabulary_size) return;
  throw Error(ErrorCode::kUsage, "logit_bias",
              fmt::format("expected a token below the vocabulary's size of {}, found {}", vocabulary_size, entry.token));
}

void require_usable_bias(const LogitBias& entry) {
  const bool bans = std::isinf(entry.bias) && entry.bias < 0;
  if (bans || std::abs(entry.bias) <= kLargestLogitBias) return;
  throw Error(ErrorCode::kUsage, "logit_bias",
              fmt::format("expected a number from {} to {} or minus infinity for token {}, found {}", -kLargestLogitBias,
                          kLargestLogitBias, entry.token, entry.bias));
}

void require_distinct_tokens(std::vector<LogitBias> entries) {
  std::ranges::sort(entries, {}, &LogitBias::token);
  const auto twin = std::ranges::adjacent_find(entries, {}, &LogitBias::token);
  if (twin == entries.end()) return;
  throw Error(ErrorCode::kUsage, "logit_bias", fmt::format("expected each token once, found token {} twice", twin->token));
}

template <typename Number>
bool parse(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::span<const SamplerField> sampler_fields() noexcept { return kFields; }

const SamplerField* find_sampler_field(std::string_view name) {
  std::string spelled(name);
  std::ranges::replace(spelled, '-', '_');
  if (spelled == "temp") spelled = "temperature";
  const auto* const found = std::ranges::find(kFields, spelled, &SamplerField::name);
  return found == kFields.end() ? nullptr : found;
}

double sampler_value(const SamplerOptions& options, const SamplerField& field) noexcept {
  return std::visit([&](auto member) { return static_cast<double>(options.*member); }, field.member);
}

std::string sampler_value_text(const SamplerOptions& options, const SamplerField& field) {
  return std::visit([&](auto member) { return fmt::format("{}", options.*member); }, field.member);
}

void set_sampler_value(SamplerOptions& options, const SamplerField& field, std::string_view text) {
  std::visit(
      [&](auto member) {
        auto value = options.*member;
        if (!parse(text, value) || !in_range(field, value)) refuse(field, fmt::format("'{}'", printable(text, 40)));
        options.*member = value;
      },
      field.member);
}

void validate(const SamplerOptions& options, size_t vocabulary_size) {
  for (const SamplerField& field : kFields) {
    // NaN is in no range.
    if (!in_range(field, sampler_value(options, field))) refuse(field, sampler_value_text(options, field));
  }
  for (const LogitBias& entry : options.logit_bias) {
    require_known_token(entry, vocabulary_size);
    require_usable_bias(entry);
  }
  require_distinct_tokens(options.logit_bias);
}

Json to_json(const SamplerOptions& options) {
  Json json = Json::object();
  for (const SamplerField& field : kFields) {
    json[std::string(field.name)] = parse_json(sampler_value_text(options, field), std::string(field.name));
  }
  if (options.logit_bias.empty()) return json;
  Json& biases = json["logit_bias"] = Json::object();
  for (const LogitBias& entry : options.logit_bias) {
    // JSON has no infinity; the largest bias bans a token just as well.
    biases[std::to_string(entry.token)] = std::isinf(entry.bias) ? -kLargestLogitBias : entry.bias;
  }
  return json;
}

}  // namespace tritllm
