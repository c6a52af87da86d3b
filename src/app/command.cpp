#include "app/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "app/option_names.h"

namespace tritllm::app {
namespace {

struct FieldFlag {
  std::string_view field, flag;
};

// Fields of a request other than the numbers of the sampler.
constexpr auto kRequestFlags = std::to_array<FieldFlag>({
    {"logit_bias", "--logit-bias"},
    {"prompt", "--prompt"},
    {"slots", "--slots"},
    {"stop", "--stop"},
    {"top_log_probabilities", "--top-log-probabilities"},
});

std::string flag_of_request(const std::string& field) {
  for (const auto& [name, flag] : kRequestFlags) {
    if (name == field) return std::string(flag);
  }
  if (const SamplerField* const number = find_sampler_field(field); number != nullptr && number->name == field) {
    return sampler_flag(*number);
  }
  return field;
}

}  // namespace

CLI::Validator number_between(double least, double most) {
  const auto refusal = [least, most](const std::string& text) {
    double value = 0;
    const bool inside = CLI::detail::lexical_cast(text, value) && value >= least && value <= most;
    return inside ? std::string() : fmt::format("Value {} not in range {} to {}", text, least, most);
  };
  return CLI::Validator(refusal, fmt::format("FLOAT in [{} - {}]", least, most));
}

std::string sampler_flag(const SamplerField& field) {
  std::string flag = fmt::format("--{}", field.name);
  std::ranges::replace(flag, '_', '-');
  return flag;
}

std::string error_text(const Error& error) {
  return Error(error.code(), with_flags(error.where()), with_flags(error.problem()), with_flags(error.remedy())).what();
}

Error flag_error(const Error& error) { return {error.code(), flag_of_request(error.where()), error.problem(), error.remedy()}; }

void add_common_options(CLI::App& command, CommonOptions& options) {
  command.add_flag("--json", options.json, "Answer in JSON on standard output")->envname("TRITLLM_JSON");
  command.add_flag("--quiet", options.quiet, "No progress and no warnings")->envname("TRITLLM_QUIET");
  add_option(command, "-t,--threads", options.threads, "Threads; 0 takes all processors", "THREADS")->check(CLI::Range(0u, 1024u));
}

void print_exactly(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size() || std::fflush(stdout) != 0) {
    throw io_error("standard output", "write", errno);
  }
}

void print(std::string_view text) { print_exactly(printable_lines(text)); }

// Paths may hold bytes that are not UTF-8.
std::string json_text(const Json& json, int indent) {
  return printable_json(json.dump(indent, ' ', false, Json::error_handler_t::replace)) + "\n";
}

void print_json(const Json& json, int indent) { print_exactly(json_text(json, indent)); }

void print_message(std::string_view text) {
  const std::string line = printable_lines(text) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

std::string readable_bytes(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value < 1e3) return fmt::format("{} B", bytes);
  constexpr std::array<std::pair<const char*, double>, 3> kUnits{{{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}}};
  for (const auto& [unit, size] : kUnits) {
    if (value < size * 999.5) return fmt::format("{:.{}f} {}", value / size, value < size * 99.95 ? 1 : 0, unit);
  }
  return fmt::format("{:.2f} TB", value / 1e12);
}

std::string readable_seconds(double seconds) {
  if (seconds < 60) return fmt::format("{:.0f} s", seconds);
  const auto whole = static_cast<uint64_t>(std::lround(seconds));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

uint64_t parse_bytes(const std::string& text, const std::string& flag) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const auto used = static_cast<size_t>(end - text.c_str());
  std::string unit = text.substr(used);
  for (const char* const ending : {"iB", "B"}) {
    if (unit.ends_with(ending)) unit.resize(unit.size() - std::string_view(ending).size());
  }
  const std::string_view units = "KMGT";
  const size_t power = unit.empty() ? 0 : units.find(unit) + 1;
  const double scale = std::pow(1024.0, static_cast<double>(power));
  if (used == 0 || !(value >= 0) || unit.size() > 1 || (!unit.empty() && power == 0) || value > 1e15 || value * scale > 1e18) {
    throw Error(ErrorCode::kUsage, flag, fmt::format("expected a size like 512M or 2G, found '{}'", text));
  }
  return static_cast<uint64_t>(value * scale);
}

}  // namespace tritllm::app
