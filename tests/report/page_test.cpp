#include "report/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "calque/report/report.h"
#include "folders.h"
#include "report/pages.h"

namespace calque::report {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string run_page_text() {
  const testing::TempFolder folder;
  write_run(folder / "run");
  return run_page(load_run(folder / "run")).text();
}

TEST(Report, OfARunHoldsEverySectionAndEveryText) {
  EXPECT_THAT(run_page_text(),
              AllOf(HasSubstr("<h2>Results</h2>"), HasSubstr("prose, 20 windows of 512 tokens"),
                    HasSubstr("code, 20 windows"), HasSubstr("<h2>Error against size</h2>"),
                    HasSubstr("noise floor"), HasSubstr("q8_0"), HasSubstr("Relative output error"),
                    HasSubstr("<h2>Time and memory</h2>"), HasSubstr("bb22"),
                    HasSubstr("calque run job.resolved.yaml")));
}

TEST(Report, EscapesEveryName) {
  EXPECT_THAT(run_page_text(),
              AllOf(Not(HasSubstr("<b>&\"")), Not(HasSubstr("dead <columns>")),
                    HasSubstr("demo &lt;b&gt;&amp;&quot;"), HasSubstr("3 dead &lt;columns&gt;")));
}

TEST(Report, NeedsNoNetwork) {
  const std::string page = run_page_text();
  EXPECT_FALSE(std::regex_search(page, std::regex("(src|href)=\"(https?:)?//")));
  EXPECT_THAT(page, AllOf(Not(HasSubstr("url(")), Not(HasSubstr("@import"))));
}

TEST(Report, ServesLightDarkAndPrint) {
  EXPECT_THAT(run_page_text(),
              AllOf(HasSubstr("prefers-color-scheme: dark"), HasSubstr("@media print")));
}

TEST(Report, WritesEachPlotWithItsData) {
  const testing::TempFolder folder;
  write_run(folder / "run");
  write_report(folder / "run", folder / "out");
  for (const char* name : {"pareto_bits", "pareto_bytes", "texts", "kl_histogram", "error_strip_1",
                           "bits_strip_2", "time", "memory"})
    for (const char* end : {".svg", ".csv"})
      EXPECT_TRUE(fs::exists(folder / "out" / (std::string(name) + end))) << name << end;
  EXPECT_FALSE(fs::exists(folder / "run/report"));
}

TEST(Report, TheSameRecordGivesTheSameBytes) { EXPECT_EQ(run_page_text(), run_page_text()); }

TEST(Report, OfAnUnfinishedRunSaysSo) {
  const testing::TempFolder folder;
  write(folder / "run/job.resolved.yaml", "version: 1\n");
  write(folder / "run/modules.csv", kModules);
  EXPECT_THAT(contents_of(write_report(folder / "run")),
              AllOf(HasSubstr("This run has not finished"), HasSubstr("3 modules are rounded")));
}

TEST(Report, OfARunWithoutEvaluationSaysSo) {
  const testing::TempFolder folder;
  write(folder / "run/metrics.json",
        R"({"job": "j", "artifacts": [{"name": "a", "tensor_bytes": 5}], "evaluations": []})");
  EXPECT_THAT(contents_of(write_report(folder / "run")), HasSubstr("no evaluation"));
}

TEST(Report, OfASweepHoldsPointsFrontKeysAndFailures) {
  const testing::TempFolder folder;
  write(folder / "sweep/results.csv", kResults);
  EXPECT_THAT(contents_of(write_report(folder / "sweep")),
              AllOf(HasSubstr("3 done"), HasSubstr("1 failed"), HasSubstr("saved by sharing"),
                    HasSubstr("class=\"front\""), HasSubstr("<h2>Failed points</h2>"),
                    HasSubstr("&quot;damping&quot; &lt;0.25&gt;"), HasSubstr("KL code")));
}

TEST(WithError, ShowsAsManyDecimalsAsTheErrorHas) {
  EXPECT_EQ(text_with_error(0.003741, 0.000043), "0.00374 \xC2\xB1 0.00004");
  EXPECT_EQ(text_with_error(42.1895, 0.7869, 2), "42.19 \xC2\xB1 0.79");
  EXPECT_EQ(text_with_error(8.253e-6, 7.1e-8), "8.25e-6 \xC2\xB1 7e-8");
  EXPECT_EQ(text_with_error(0.0156, 0), "0.0156");
}

}  // namespace
}  // namespace calque::report
