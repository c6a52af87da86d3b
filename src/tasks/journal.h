// Owns the record of work that is done: a file with one line for each tensor, appended once its bytes are written. A run that was
// killed at any moment goes on from here. Lines carry their own checksum and the checksums of the bytes that they describe, so a
// torn line or a lost page is noticed and that tensor is done again; no line has to be flushed to the disk for that.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "core/file.h"
#include "io/manifest.h"

namespace tritllm {

struct JournalEntry {
  TensorRecord record;
  std::string plain_checksum;  // of the tensor's bytes in the plain (FP16) folder, empty where there is none
};

class Journal {
 public:
  // Reads the entries at `path`, or starts a new file. Throws an Error of kConflict where the journal there belongs to a run with
  // another fingerprint. `replaces_results`: whether a new journal is of a run that is to replace results under the final names.
  Journal(std::filesystem::path path, const std::string& fingerprint, bool replaces_results = false);

  // By the tensor's position in the source.
  const std::map<uint64_t, JournalEntry>& entries() const noexcept { return entries_; }
  void add(uint64_t position, JournalEntry entry);
  void forget(uint64_t position) { entries_.erase(position); }

 private:
  void load(const std::string& fingerprint, bool replaces_results);

  std::filesystem::path path_;
  OutputFile file_;
  std::map<uint64_t, JournalEntry> entries_;
};

// The fingerprint that a journal starts with, or nothing where there is no readable journal.
std::optional<std::string> journal_fingerprint(const std::filesystem::path& path);

// The journal at `path` is of a run that replaces results: what stands under their names may be the former ones.
bool journal_replaces_results(const std::filesystem::path& path);

}  // namespace tritllm
