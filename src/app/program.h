// Owns the command line as a whole: the subcommands, help, names that are unknown, and the environment twins of options. Does not
// own the process (main.cpp) nor what a subcommand does.
#pragma once

namespace tritllm::app {

// Reads the arguments and runs what they ask for; the exit status. Throws an Error for everything that main() should report.
int run_program(int argc, char** argv);

}  // namespace tritllm::app
