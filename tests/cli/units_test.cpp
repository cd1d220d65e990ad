#include "cli/units.h"

#include <gtest/gtest.h>

namespace calque::cli {
namespace {

TEST(BytesText, KeepsThreeDigits) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1024), "1.00 KiB");
  EXPECT_EQ(bytes_text(10 * 1024), "10.0 KiB");
  EXPECT_EQ(bytes_text(812ull << 20), "812 MiB");
  EXPECT_EQ(bytes_text((1ull << 30) - 1), "1.00 GiB");  // not "1024 MiB"
  EXPECT_EQ(bytes_text(~0ull), "16.0 EiB");
}

TEST(DurationText, ChangesUnitsWithLength) {
  EXPECT_EQ(duration_text(0.44), "0.4 s");
  EXPECT_EQ(duration_text(9.94), "9.9 s");
  EXPECT_EQ(duration_text(59.4), "59 s");
  EXPECT_EQ(duration_text(59.6), "1m00s");
  EXPECT_EQ(duration_text(245), "4m05s");
  EXPECT_EQ(duration_text(7384), "2h03m");
}

TEST(ShellQuoted, LeavesPlainPathsAndQuotesOthers) {
  EXPECT_EQ(shell_quoted("/a/b-1.gguf"), "/a/b-1.gguf");
  EXPECT_EQ(shell_quoted("/a b"), "'/a b'");
  EXPECT_EQ(shell_quoted("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_quoted("$(x)"), "'$(x)'");
}

TEST(Printable, ReplacesControlCharacters) {
  EXPECT_EQ(printable("a\x1b[31m\nb\x7f"), "a?[31m?b?");
  EXPECT_EQ(printable("caf\xc3\xa9"), "caf\xc3\xa9");
}

}  // namespace
}  // namespace calque::cli
