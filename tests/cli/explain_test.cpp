#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "calque/core/error_table.h"
#include "cli/run_program.h"

namespace calque::cli {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(Explain, TellsWhatACodeMeansAndWhatToDo) {
  const Outcome outcome = run("explain E131");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(StartsWith("E131 (exit code 2)\n  group_size does not divide"),
                                 HasSubstr("\nWhat to do\n  Use one of these sizes")));
}

TEST(Explain, TakesSeveralCodesAsTheyStandInMessages) {
  EXPECT_EQ(run("explain '[e101]' 302").out,
            run("explain E101").out + "\n" + run("explain E302").out);
}

TEST(Explain, ListsEveryCodeInOneLineEach) {
  const std::string all = run("explain").out;
  for (const ErrorEntry& entry : error_table())
    EXPECT_THAT(all, HasSubstr("\n" + std::string(entry.code) + " "));
}

TEST(Explain, RefusesACodeThatDoesNotExist) {
  const Outcome outcome = run("explain E999");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("no error code 'E999'"));
}

TEST(Explain, MessagesEndWithTheCommandThatExplainsThem) {
  EXPECT_THAT(run("run /nonexistent.yaml").err, EndsWith("\n(calque explain E111)\n"));
}

TEST(Explain, AFileWithSeveralFaultsNamesEachCodeOnce) {
  const testing::TempFolder folder;
  write(folder / "job.yaml", "version: 2\nmodle: x\nexprot: y\n");
  const Outcome outcome = run("validate " + shell_quoted(folder / "job.yaml"));
  EXPECT_THAT(outcome.err, HasSubstr("\n(calque explain E1"));
  const std::string last = outcome.err.substr(outcome.err.rfind('('));
  EXPECT_EQ(last.find("E101"), last.rfind("E101"));
}

TEST(Explain, UsageErrorsPointToHelpInstead) {
  EXPECT_THAT(run("run").err, AllOf(HasSubstr("--help"), Not(HasSubstr("calque explain"))));
}

TEST(ErrorTable, EveryRowSaysWhatToDo) {
  for (const ErrorEntry& entry : error_table()) {
    EXPECT_FALSE(entry.title.empty() || entry.remedy.empty()) << entry.code;
    EXPECT_TRUE(entry.title.ends_with('.') && entry.remedy.ends_with('.')) << entry.code;
  }
}

}  // namespace
}  // namespace calque::cli
