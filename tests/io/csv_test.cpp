#include "calque/io/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"

namespace calque::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Csv, QuotedCellsHoldCommasQuotesAndLineEnds) {
  const Csv csv = parse_csv("a,b\r\n\"x, \"\"y\"\"\",\"two\nlines\"\r\n", "t.csv");
  EXPECT_THAT(csv.titles, ElementsAre("a", "b"));
  ASSERT_EQ(csv.rows.size(), 1u);
  EXPECT_THAT(csv.rows[0], ElementsAre("x, \"y\"", "two\nlines"));
}

TEST(Csv, WhatWasWrittenReadsBack) {
  const Csv csv{{"a", "b"}, {{"1,2", "say \"hi\""}, {"", "line\nend"}}};
  const Csv back = parse_csv(csv_text(csv), "t.csv");
  EXPECT_EQ(back.rows, csv.rows);
}

TEST(Csv, OnlyCellsThatNeedQuotesGetThem) {
  EXPECT_EQ(csv_line({"plain", "a,b", "say \"x\"", "two\nlines", ""}),
            "plain,\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",\n");
}

TEST(Csv, AlsoReadsQuotesThatEarlierVersionsEscapedAsJson) {
  const Csv csv = parse_csv("a,b\n1,\"no \\\"x\\\" here\"\n", "t.csv");
  ASSERT_EQ(csv.rows.size(), 1u);
  EXPECT_EQ(csv.rows[0][0], "1");
  EXPECT_THAT(csv.rows[0][1], HasSubstr("here"));
}

TEST(Csv, ALineWithTooFewCellsIsRefusedByNumber) {
  try {
    parse_csv("a,b\n1,2\n3\n", "t.csv");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E252");
    EXPECT_THAT(error.what(), HasSubstr("t.csv:3: has 1 cells, but the first line has 2"));
  }
}

TEST(Csv, AHalfWrittenLastLineOfAFileThatGrowsIsLeftOut) {
  EXPECT_EQ(parse_csv("a,b\n1,2\n3,4", "t.csv", true).rows.size(), 1u);
  EXPECT_EQ(parse_csv("a,b\n1,2\n3", "t.csv", true).rows.size(), 1u);
  EXPECT_EQ(parse_csv("a,b\n1,2\n3,4", "t.csv").rows.size(), 2u);
}

TEST(Csv, AnEmptyFileHasNothing) { EXPECT_TRUE(parse_csv("", "t.csv").titles.empty()); }

}  // namespace
}  // namespace calque::io
