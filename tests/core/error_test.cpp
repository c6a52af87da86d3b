// Owns the cases of core/error.h: the form of a message, and that nothing from input can forge one.
#include "core/error.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace tritllm {
namespace {

TEST(Error, MessageIsWhereProblemRemedy) {
  const Error error(ErrorCode::kBadInput, "a.json", "expected 1, found 2", "download it again");
  EXPECT_STREQ(error.what(), "a.json: expected 1, found 2; download it again");
  EXPECT_EQ(error.code(), ErrorCode::kBadInput);
  EXPECT_EQ(error.where(), "a.json");
  EXPECT_EQ(error.problem(), "expected 1, found 2");
  EXPECT_EQ(error.remedy(), "download it again");
}

TEST(Error, EmptyPartsLeaveNoPunctuation) {
  EXPECT_STREQ(Error(ErrorCode::kUsage, "", "no model given").what(), "no model given");
  EXPECT_STREQ(Error(ErrorCode::kUsage, "", "no model given", "name one").what(), "no model given; name one");
}

TEST(Error, HostileNameCannotForgeALineOrMoveTheCursor) {
  const Error error(ErrorCode::kBadInput, "x\nerror: all is well", "\x1b[2J\r\x7f", "\t");
  EXPECT_STREQ(error.what(), "x\\x0aerror: all is well: \\x1b[2J\\x0d\\x7f; \\x09");
}

TEST(Error, PrintableKeepsUtf8AndEscapesWhatIsNone) {
  EXPECT_EQ(printable("größe 日本 🙂"), "größe 日本 🙂");
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");           // overlong form
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // surrogate
  EXPECT_EQ(printable("a\xe6\x97"), "a\\xe6\\x97");         // cut short
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
}

// C1, marks and overrides of direction, separators, hidden characters.
TEST(Error, PrintableEscapesEveryControlCharacter) {
  EXPECT_EQ(printable("a\u009b31mb"), "a\\xc2\\x9b31mb");
  EXPECT_EQ(printable("a\x9b"
                      "31m"),
            "a\\x9b31m");
  for (const char* const hidden : {"\u0085", "\u202e", "\u2066", "\u200e", "\u061c", "\u2028", "\u200b", "\ufeff", "\U000e0041"}) {
    const std::string shown = printable(std::string("a") + hidden + "b");
    EXPECT_TRUE(shown.starts_with("a\\x") && shown.ends_with("b")) << shown;
    for (const char c : shown) EXPECT_GT(c, 0x1f) << shown;
  }
  EXPECT_EQ(printable("\u00a0é日🙂\u0301"), "\u00a0é日🙂\u0301");
}

TEST(Error, PrintableCutsLongTextBetweenCharacters) {
  EXPECT_EQ(printable("abcdef", 6), "abcdef");
  EXPECT_EQ(printable("abcdefg", 6), "abcdef…");
  EXPECT_EQ(printable("ééé", 3), "éé…");
  EXPECT_LT(std::string_view(Error(ErrorCode::kBadInput, std::string(1 << 20, 'x'), std::string(1 << 20, '\n')).what()).size(),
            4000u);
}

TEST(Error, IoErrorNamesTheReasonOfTheSystem) {
  const Error error = io_error("/some/file", "open", ENOENT);
  EXPECT_STREQ(error.what(), "/some/file: cannot open: No such file or directory");
  EXPECT_EQ(error.code(), ErrorCode::kIo);
}

}  // namespace
}  // namespace tritllm
