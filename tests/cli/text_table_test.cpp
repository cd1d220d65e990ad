#include "cli/text_table.h"

#include <gtest/gtest.h>

namespace calque::cli {
namespace {

TEST(TextTable, AlignsColumnsAndLeavesNoBlanksAtTheEnd) {
  TextTable table({{"name", TextTable::Align::kLeft}, {"n"}, {"note", TextTable::Align::kLeft}});
  table.add({"a", "1", "first"});
  table.add({"longer", "234", ""});
  EXPECT_EQ(table.text(),
            "name      n  note\n"
            "a         1  first\n"
            "longer  234\n");
}

TEST(TextTable, CountsCodePointsNotBytes) {
  TextTable table({{"x", TextTable::Align::kLeft}, {"y"}});
  table.add({"\xc3\xa9\xc3\xa9", "1"});
  table.add({"ab", "2"});
  EXPECT_EQ(table.text(),
            "x   y\n"
            "\xc3\xa9\xc3\xa9  1\n"
            "ab  2\n");
}

}  // namespace
}  // namespace calque::cli
