// The journal: what survives a kill at any byte, and journals of other runs.
#include "tasks/journal.h"

#include <gtest/gtest.h>

#include "core/checksum.h"
#include "core/json.h"
#include "support/expect_error.h"
#include "support/model_folder.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {

const std::string kDigits(32, 'a'), kOther(32, 'b');

JournalEntry entry_of(const std::string& name) {
  JournalEntry entry;
  entry.plain_checksum = kDigits;
  entry.record.name = name;
  entry.record.shape = {3, 17};
  entry.record.source_type = "BF16";
  entry.record.source_checksum = entry.record.checksum = kDigits;
  entry.record.fate = Fate::kTernary;
  entry.record.depth = 2;
  entry.record.file = "trits-00001-of-00001.safetensors";
  entry.record.error = {.weight_energy = 0.1,
                        .relative_mse = 1.0 / 3,
                        .sqnr_db = 4.7712,
                        .cosine = 0.1 + 0.2,
                        .max_abs_error = 1e-7,
                        .clipped = 3,
                        .level_histogram = {1, 2, 3, 4, 5, 6, 7, 8, 9}};
  return entry;
}

class JournalTest : public testing::Test {
 protected:
  // A journal of three entries, one of them added anew.
  void SetUp() override {
    Journal journal(path(), kDigits);
    journal.add(0, entry_of("a"));
    journal.add(2, entry_of("b\n\"c\""));
    journal.add(0, entry_of("again"));
  }
  std::filesystem::path path() const { return folder_ / "journal.jsonl"; }
  const TemporaryFolder folder_;
};

TEST_F(JournalTest, GoesOnWhereItEnded) {
  {
    Journal journal(path(), kDigits);
    ASSERT_EQ(journal.entries().size(), 2u);
    EXPECT_EQ(journal.entries().at(0).record.name, "again");
    const JournalEntry& entry = journal.entries().at(2);
    EXPECT_EQ(to_json(entry.record), to_json(entry_of("b\n\"c\"").record)) << "every digit of the figures comes back";
    EXPECT_EQ(entry.plain_checksum, kDigits);
    journal.forget(0);
    EXPECT_EQ(journal.entries().size(), 1u);
    journal.add(7, entry_of("d"));
  }
  EXPECT_EQ(Journal(path(), kDigits).entries().size(), 3u);
  EXPECT_EQ(journal_fingerprint(path()), kDigits);
}

TEST_F(JournalTest, ATornLineAtAnyByteCostsThatLineOnly) {
  const std::string whole = read_plainly(path());
  std::vector<size_t> line_ends;
  for (size_t i = 0; i < whole.size(); ++i) {
    if (whole[i] == '\n') line_ends.push_back(i + 1);
  }
  ASSERT_EQ(line_ends.size(), 4u) << "a header and three entries";
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    write_plainly(path(), whole.substr(0, cut));
    const auto lines = static_cast<size_t>(std::upper_bound(line_ends.begin(), line_ends.end(), cut) - line_ends.begin());
    const size_t expected = lines < 2 ? 0 : std::min<size_t>(lines - 1, 2);
    {
      Journal journal(path(), kDigits);
      ASSERT_EQ(journal.entries().size(), expected) << "cut at byte " << cut;
      journal.add(9, entry_of("new"));
    }
    ASSERT_EQ(Journal(path(), kDigits).entries().size(), expected + 1) << "what was added after a cut at byte " << cut;
  }
}

TEST_F(JournalTest, AnAlteredLineAndAllBehindItAreDoneAgain) {
  const std::string whole = read_plainly(path());
  const size_t second = whole.find('\n') + 1, third = whole.find('\n', second) + 1;
  for (size_t i = second; i < third; ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    write_plainly(path(), damaged);
    ASSERT_TRUE(Journal(path(), kDigits).entries().empty()) << "byte " << i;
  }
}

TEST_F(JournalTest, ZerosThatAPowerCutLeftAreNoEntries) {
  write_plainly(path(), read_plainly(path()) + std::string(5000, '\0'));
  EXPECT_EQ(Journal(path(), kDigits).entries().size(), 2u);
}

TEST_F(JournalTest, AnotherRunIsRefusedAndUntouched) {
  const std::string before = read_plainly(path());
  expect_error(ErrorCode::kConflict, "options.output.fresh", [&] { Journal(path(), kOther); });
  EXPECT_EQ(read_plainly(path()), before);
}

TEST_F(JournalTest, AFileThatIsNoJournalHasNoFingerprint) {
  write_plainly(path(), "not a journal\n");
  EXPECT_EQ(journal_fingerprint(path()), std::nullopt);
  write_plainly(path(), "");
  EXPECT_EQ(journal_fingerprint(path()), std::nullopt);
}

// A line whose checksum somebody made to fit is still read as hostile JSON.
TEST_F(JournalTest, ForgedLinesAreValidated) {
  for (const std::string content : {R"({"position":1})", R"({"position":-1,"plain_checksum":"","record":{}})",
                                    R"({"position":1,"plain_checksum":"","record":{"name":"x"}})", "[]", "{"}) {
    write_plainly(path(), checksum_of(R"({"fingerprint":")" + kDigits + "\"}") + R"( {"fingerprint":")" + kDigits + "\"}\n" +
                              checksum_of(content) + " " + content + "\n");
    EXPECT_THROW(Journal(path(), kDigits), Error) << content;
  }
}

}  // namespace
}  // namespace tritllm
