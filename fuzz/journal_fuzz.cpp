// Owns the fuzz target of tasks/journal.h. The input is taken as it is, and once more with a checksum that fits each of its lines,
// since no mutation would ever find one. What is read is the same the second time, and the same after it was written.
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <map>

#include "core/checksum.h"
#include "core/error.h"
#include "core/json.h"
#include "scratch_folder.h"
#include "tasks/journal.h"

namespace {

using namespace tritllm;

std::string fitted(std::string_view journal) {
  constexpr size_t kChecksum = 33;  // 32 digits and a space
  std::string lines;
  while (!journal.empty()) {
    const size_t end = std::min(journal.find('\n'), journal.size());
    const std::string_view line = journal.substr(0, end), content = line.substr(std::min(kChecksum, line.size()));
    lines += fmt::format("{} {}\n", checksum_of(content), content);
    journal.remove_prefix(std::min(end + 1, journal.size()));
  }
  return lines;
}

std::map<uint64_t, std::string> shown(const Journal& journal) {
  std::map<uint64_t, std::string> entries;
  for (const auto& [position, entry] : journal.entries()) entries[position] = to_json(entry.record).dump() + entry.plain_checksum;
  return entries;
}

void examine(const ScratchFolder& folder, std::string_view text) {
  folder.write("journal.jsonl", text);
  const auto path = folder.path() / "journal.jsonl", copy = folder.path() / "copy.jsonl";
  std::map<uint64_t, std::string> read;
  std::string fingerprint;
  try {
    fingerprint = journal_fingerprint(path).value_or("none");
    journal_replaces_results(path);
    read = shown(Journal(path, fingerprint));
  } catch (const Error&) {
    return;
  }
  const Journal again(path, fingerprint);
  if (shown(again) != read) std::abort();
  folder.write("copy.jsonl", "");
  Journal written(copy, fingerprint);
  for (const auto& [position, entry] : again.entries()) written.add(position, entry);
  if (shown(Journal(copy, fingerprint)) != read) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ScratchFolder folder;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  examine(folder, input);
  examine(folder, fitted(input));
  return 0;
}
