// Owns the fuzz target of app/chat_input.h: the file of former inputs, and blocks between """. An input is "history 0xff lines". A
// history that is accepted takes a new entry, and reads back as it was written.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "app/chat_input.h"
#include "core/error.h"
#include "scratch_folder.h"

namespace {

using namespace tritllm;

void examine_history(const ScratchFolder& folder, std::string_view contents) {
  folder.write("history", contents);
  try {
    app::InputHistory history(folder.path() / "history");
    history.add("something new");
    const std::vector<std::string> entries = history.entries();
    if (entries.empty() || entries.back() != "something new" || entries.size() > app::kMostHistoryEntries) std::abort();
    if (app::InputHistory(folder.path() / "history").entries() != entries) std::abort();
  } catch (const Error&) {
  }
}

void examine_lines(std::string_view lines) {
  const app::ReadLine next_line = [&](const char*) {
    if (lines.empty()) return app::ChatInput{};
    const size_t end = lines.find('\n');
    const std::string line(lines.substr(0, end));
    lines.remove_prefix(end == lines.npos ? lines.size() : end + 1);
    return app::ChatInput{app::ChatInput::Kind::kText, line};
  };
  try {
    while (true) {
      const app::ChatInput input = app::read_input(next_line);
      if (input.kind == app::ChatInput::Kind::kEnd) return;
      if (app::without_block_marks(input.text).size() > input.text.size()) std::abort();
    }
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ScratchFolder folder;
  const std::vector<std::string_view> parts = sections(std::string_view(reinterpret_cast<const char*>(data), size));
  examine_history(folder, parts[0]);
  if (parts.size() > 1) examine_lines(parts[1]);
  return 0;
}
