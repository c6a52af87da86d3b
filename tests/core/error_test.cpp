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

TEST(Error, MessagesAreOfBoundedLength) {
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
