// Owns the cases of core/printable.h: nothing that came from outside moves a cursor, forges a line or turns text, and text of every
// language stays as it is.
#include "core/printable.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tritllm {
namespace {

// Each of them at several places of a text.
constexpr const char* kHarmful[] = {"\x1b",   "\x07",   "\x7f",   "\u0085", "\u009b", "\u202a", "\u202e",    "\u2066",
                                    "\u2069", "\u2028", "\u2029", "\u206a", "\ufeff", "\ufff9", "\U000e0041"};
// Joiners of emoji and of Persian, soft hyphen, word joiner, marks of direction, space without width, a variation selector,
// accents, the flag of Wales.
constexpr const char* kHarmless[] = {"größe 日本 🙂",
                                     "👩\u200d🚀",
                                     "می\u200cخواهم",
                                     "co\u00adop",
                                     "a\u2060b",
                                     "אב\u200fגד",
                                     "a\u200bb",
                                     "❤\ufe0f",
                                     "\u00a0é日🙂\u0301",
                                     "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"};

TEST(Printable, EscapesWhateverSteersATerminal) {
  for (const char* const harmful : kHarmful) {
    for (const std::string& text : {std::string(harmful) + "b", std::string("a") + harmful, std::string("🏴a") + harmful + "é"}) {
      const std::string shown = printable(text), lines = printable_lines(text);
      EXPECT_EQ(shown.find(harmful), shown.npos) << shown;
      EXPECT_NE(shown.find("\\x"), shown.npos) << shown;
      EXPECT_EQ(lines, shown);
    }
  }
  EXPECT_EQ(printable("a\u009b31mb"), "a\\xc2\\x9b31mb");
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
}

TEST(Printable, EscapesWhatIsNotUtf8) {
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");           // overlong form
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // surrogate
  EXPECT_EQ(printable("a\xe6\x97"), "a\\xe6\\x97");         // cut short
  EXPECT_EQ(printable_lines("\x9b"
                            "31m"),
            "\\x9b31m");  // C1 as one byte
}

TEST(Printable, KeepsTextOfEveryLanguage) {
  for (const char* const text : kHarmless) {
    EXPECT_EQ(printable(text), text);
    EXPECT_EQ(printable_lines(text), text);
    EXPECT_EQ(printable_json(text), text);
  }
}

TEST(Printable, LinesAndTabsStayInText) {
  EXPECT_EQ(printable("a\tb\nc"), "a\\x09b\\x0ac");
  EXPECT_EQ(printable_lines("a\tb\nc\r"), "a\tb\nc\\x0d");
  const std::string longer(100'000, 'x');
  EXPECT_EQ(printable_lines(longer), longer);
}

TEST(Printable, CutsLongTextBetweenCharacters) {
  EXPECT_EQ(printable("abcdef", 6), "abcdef");
  EXPECT_EQ(printable("abcdefg", 6), "abcdef…");
  EXPECT_EQ(printable("ééé", 3), "éé…");
}

TEST(Printable, JsonStaysTheSameDocument) {
  nlohmann::json document = nlohmann::json::array();
  for (const char* const text : kHarmful) document.push_back(text);
  for (const char* const text : kHarmless) document.push_back(text);
  const std::string shown = printable_json(document.dump(2));
  EXPECT_EQ(nlohmann::json::parse(shown), document);
  for (const char* const text : kHarmful) EXPECT_EQ(shown.find(text), shown.npos) << shown;
  for (const char* const text : kHarmless) EXPECT_NE(shown.find(text), shown.npos) << shown;
}

}  // namespace
}  // namespace tritllm
