// Owns the texts that are made from the option definitions: shell completions and the manual page. Does not own the definitions.
#pragma once

#include <CLI/CLI.hpp>

#include "app/command.h"

namespace tritllm::app {

// `tritllm completions bash|zsh|fish` prints the script of that shell.
RunCommand register_completions(CLI::App& app);

// `tritllm manual` prints the manual page, tritllm(1), as roff.
RunCommand register_manual(CLI::App& app);

}  // namespace tritllm::app
