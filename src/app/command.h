// Owns what all subcommands share: their registration, the options that every one takes, and the console. Does not own the list of
// subcommands nor how a command line is read (program.h).
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "sampling/sampler_options.h"

namespace tritllm::app {

// How often a command that waits for an answer looks for an interrupt.
inline constexpr std::chrono::milliseconds kStopInterval{20};
inline constexpr int kInterruptedStatus = 130;  // 128 + SIGINT, as shells count

// Options of every subcommand.
struct CommonOptions {
  bool json = false;   // machine-readable answer on standard output
  bool quiet = false;  // no progress and no warnings on standard error
  unsigned threads = 0;
};

// Adds --json, --quiet and --threads.
void add_common_options(CLI::App& command, CommonOptions& options);

// Adds an option with its TRITLLM_* twin in the environment.
template <typename Value>
CLI::Option* add_option(CLI::App& command, const std::string& flag, Value& value, const std::string& help,
                        const std::string& environment) {
  return command.add_option(flag, value, help)->envname("TRITLLM_" + environment)->capture_default_str();
}

// A number in the range, both ends included. NaN is not: CLI::Range lets it pass.
CLI::Validator number_between(double least, double most);

// A subcommand is registered with the parser and runs later; run() returns the exit status.
using RunCommand = std::function<int()>;
RunCommand register_quantize(CLI::App& app);
RunCommand register_pack(CLI::App& app);
RunCommand register_dequantize(CLI::App& app);
RunCommand register_inspect(CLI::App& app);
RunCommand register_verify(CLI::App& app);
RunCommand register_merge(CLI::App& app);
RunCommand register_run(CLI::App& app);
RunCommand register_chat(CLI::App& app);
RunCommand register_serve(CLI::App& app);
RunCommand register_tokenize(CLI::App& app);
RunCommand register_devices(CLI::App& app);
RunCommand register_eval(CLI::App& app);
RunCommand register_compare(CLI::App& app);
RunCommand register_bench(CLI::App& app);

// The error as a user of the command line reads it: the modules below name fields of options ("options.max_memory"), the command
// line has flags ("--max-memory").
std::string error_text(const Error& error);

// The error of a request whose fields were given as flags: "--top-k" for "top_k". A chat names the fields of its requests as they
// are.
Error flag_error(const Error& error);

// "--top-k".
std::string sampler_flag(const SamplerField& field);

// All output goes through these. What steers a terminal is escaped (core/printable.h), whoever wrote it; output that cannot be
// written is an Error.
void print(std::string_view text);                        // to standard output
std::string json_text(const Json& json, int indent = 2);  // with the end of its last line; -1: in one line
void print_json(const Json& json, int indent = 2);        // to standard output
void print_message(std::string_view text);                // a line to standard error; one that cannot be written is lost
// To standard output as it is: an answer that another program reads.
void print_exactly(std::string_view bytes);

// "1.23 GB", "456 KB".
std::string readable_bytes(uint64_t bytes);
std::string readable_seconds(double seconds);

// Bytes from "512M", "2G", "1.5GiB" or a plain number; throws an Error of kUsage.
uint64_t parse_bytes(const std::string& text, const std::string& flag);

}  // namespace tritllm::app
