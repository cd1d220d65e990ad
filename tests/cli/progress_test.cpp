#include "cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace calque::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

record::ModuleReport module(const std::string& role, int bits, double error) {
  record::ModuleReport report;
  report.block = 6;
  report.module = "model.layers.6.self_attn." + role;
  report.role = role;
  report.grid.bits = bits;
  report.rounding.relative_error = error;
  return report;
}

TEST(BlockLine, NamesModulesBitsErrorsAndTime) {
  EXPECT_EQ(
      block_line(6, 32, {module("q_proj", 4, 0.01234), module("down_proj", 8, 0.0041)}, 9.81, 245),
      "[ 7/32] model.layers.6  q 4b 0.01234  down 8b 0.00410  9.8 s  ETA 4m05s");
}

TEST(BlockLine, GivesTheMeanOfExpertsOfOneRole) {
  EXPECT_EQ(block_line(6, 7,
                       {module("w1", 4, 0.01), module("w3", 4, 0.5), module("w1", 4, 0.03),
                        module("w1", 8, 0.001)},
                       1, -1),
            "[7/7] model.layers.6  w1 4b x2 0.02000  w3 4b 0.50000  w1 8b 0.00100  1.0 s");
}

TEST(BlockLine, MarksFallbacksAndOmitsTheLastEstimate) {
  record::ModuleReport fallen = module("q_proj", 4, 0.5);
  fallen.rounding.fallback_reason = "not positive definite";
  EXPECT_EQ(block_line(6, 7, {fallen}, 1, -1), "[7/7] model.layers.6  q 4b 0.50000!  1.0 s");
  EXPECT_EQ(block_line(0, 7, {}, 1, -1), "[1/7] block 0  1.0 s");
}

TEST(Progress, PlainIsALineABlockWithoutControlCharacters) {
  std::ostringstream out;
  Progress progress(ProgressMode::kPlain, out);
  progress.phase_started("quantize", 2);
  progress.module_done(module("q_proj", 4, 0.01));
  progress.block_done(0, 3, 2);
  progress.block_done(1, 3, 4);
  progress.warning("look\x1b[31m out");
  EXPECT_EQ(out.str(),
            "quantize\n"
            "[1/3] model.layers.6.self_attn.q_proj  q 4b 0.01000  2.0 s  ETA 4.0 s\n"
            "[2/3] block 1  4.0 s  ETA 3.0 s\n"  // mean of 2 and 4, one block left
            "warning: look?[31m out\n");
}

TEST(Progress, PlainReportsStepsByQuarters) {
  std::ostringstream out;
  Progress progress(ProgressMode::kPlain, out);
  progress.phase_started("evaluate", 8);
  for (Index done = 1; done <= 8; ++done) progress.step(done);
  EXPECT_EQ(out.str(), "evaluate\nevaluate 2/8\nevaluate 4/8\nevaluate 6/8\nevaluate 8/8\n");
}

TEST(Progress, TerminalLinesAreReplacedAndNeverWrap) {
  std::ostringstream out;
  {
    Progress progress(ProgressMode::kTty, out, 20);
    progress.module_done(module("q_proj", 4, 0.01));
    EXPECT_EQ(out.str(), "\r\x1b[Kmodel.layers.6.self");  // 19 columns
    progress.note("note");
    EXPECT_EQ(out.str(), "\r\x1b[Kmodel.layers.6.self\r\x1b[Knote\n");
    progress.module_done(module("q_proj", 4, 0.01));
  }
  EXPECT_TRUE(out.str().ends_with("\r\x1b[K"));  // nothing half-drawn is left
}

TEST(BarLine, ShowsTheShareOfTheTimeThatIsGone) {
  EXPECT_EQ(bar_line(30, 90, 555 << 20, "evaluate 3/8"),
            "[=====>..............]  25 %  ETA 1m30s  555 MiB  evaluate 3/8");
  EXPECT_EQ(bar_line(0, 0, 1 << 20, "x"), "[>...................]   0 %  1.00 MiB  x");
}

TEST(BarLine, StaysBelowTheEndIfThePredictionWasTooShort) {
  EXPECT_EQ(bar_line(100, -5, 1 << 30, "x"), "[===================>]  99 %  1.00 GiB  x");
}

TEST(Progress, TheBarIsOfTheWholeJobAndFollowsTheClock) {
  std::ostringstream out;
  double clock = 1000;
  Progress progress(ProgressMode::kTty, out, 200,
                    {[&clock] { return clock; }, [] { return std::uint64_t{64} << 20; }});
  progress.seconds_left(50);
  clock += 10;
  progress.module_done(module("q_proj", 4, 0.01));
  EXPECT_THAT(out.str(), HasSubstr("]  20 %  ETA 40 s  64.0 MiB  model.layers.6  q 4b 0.01000"));
  progress.seconds_left(10);  // the first block was faster
  progress.block_done(5, 7, 10);
  EXPECT_THAT(out.str(), HasSubstr("q 4b 0.01000  10 s\n"));  // the bar alone has an ETA
  EXPECT_TRUE(out.str().ends_with("]  50 %  ETA 10 s  64.0 MiB  block 6/7")) << out.str();
}

TEST(Progress, NoneIsSilent) {
  std::ostringstream out;
  Progress progress(ProgressMode::kNone, out);
  progress.phase_started("quantize", 2);
  progress.module_done(module("q_proj", 4, 0.01));
  progress.block_done(0, 3, 2);
  progress.step(1);
  progress.note("note");
  progress.warning("warning");
  EXPECT_EQ(out.str(), "");
}

TEST(ProgressMode, AutoIsPlainWithoutATerminal) {
  EXPECT_EQ(progress_mode("none"), ProgressMode::kNone);
  EXPECT_EQ(progress_mode("plain"), ProgressMode::kPlain);
  EXPECT_EQ(progress_mode("tty"), ProgressMode::kTty);
}

}  // namespace
}  // namespace calque::cli
