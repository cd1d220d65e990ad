#include "calque/report/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"
#include "folders.h"

namespace calque::report {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename Action>
void expect_error(const char* code, const std::string& text, const Action& action) {
  try {
    action();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_THAT(error.what(), HasSubstr(text));
  }
}

TEST(Record, ARunReadsBackWhatItWrote) {
  const testing::TempFolder folder;
  write_run(folder / "run");
  const auto run = load_run(folder / "run");
  EXPECT_TRUE(run.finished);
  EXPECT_EQ(run.name, "demo <b>&\"");
  EXPECT_EQ(run.source_name, "tiny");
  ASSERT_EQ(run.artifacts.size(), 2u);
  EXPECT_EQ(run.artifacts[1].type(), "Q4_K_M");
  ASSERT_EQ(run.evaluations.size(), 2u);
  const record::EvaluationReport& prose = run.evaluations[0];
  EXPECT_EQ(prose.manifest.tokens_sha256, "aa11");
  EXPECT_DOUBLE_EQ(prose.reference().perplexity_hf.value, 42.0);
  EXPECT_DOUBLE_EQ(prose.find(record::ModelKind::kNoiseFloor)->divergence.kl_mean, 1e-5);
  const record::DivergenceResult& d = prose.artifact("tiny-GPTQ")->divergence;
  EXPECT_DOUBLE_EQ(d.kl_mean, 0.0037);  // not that with the coarser cache
  EXPECT_DOUBLE_EQ(d.median_interval.low, 0.0019);
  EXPECT_FALSE(d.p99_interval.known());
  EXPECT_THAT(d.kl_histogram.counts, ElementsAre(10, 200, 30));
  EXPECT_DOUBLE_EQ(run.predicted.stages.forward, 9.0);
  EXPECT_EQ(run.predicted.peak_bytes, 553648128u);
}

TEST(Record, AModuleThatComesAgainBeginsAPass) {
  const testing::TempFolder folder;
  write_run(folder / "run");
  const auto run = load_run(folder / "run");
  ASSERT_EQ(run.passes.size(), 2u);
  EXPECT_EQ(run.passes[0].size(), 2u);
  EXPECT_EQ(run.passes[0][1].rounding.fallback_reason, "a, b");
  EXPECT_EQ(run.passes[1][0].grid.bits, 6);
}

TEST(Record, AnUnfinishedRunHasItsModulesSoFar) {
  const testing::TempFolder folder;
  write(folder / "run/job.resolved.yaml", "version: 1\n");
  write(folder / "run/modules.csv", std::string(kModules) + "1,model.layers.1.self_a");
  const auto run = load_run(folder / "run");
  EXPECT_FALSE(run.finished);
  EXPECT_EQ(run.name, "run");
  EXPECT_EQ(run.passes.size(), 2u);
}

TEST(Record, AFolderThatIsNeitherIsRefused) {
  const testing::TempFolder folder;
  expect_error("E251", "neither a run nor a sweep", [&] { kind_of(folder / "."); });
  expect_error("E251", "not there", [&] { kind_of(folder / "nothing"); });
}

TEST(Record, DamagedMetricsNameTheFileAndThePlace) {
  const testing::TempFolder folder;
  write_run(folder / "run", std::string(kMetrics).substr(0, 500));
  expect_error("E252", "metrics.json", [&] { load_run(folder / "run"); });
  write_run(folder / "run", R"({"artifacts": [{"name": 5}]})");
  expect_error("E252", "metrics.json", [&] { load_run(folder / "run"); });
}

TEST(Record, AnArtifactFolderKeepsOnlyItself) {
  const testing::TempFolder folder;
  write(folder / "tiny-GPTQ/calque/metrics.json", kMetrics);
  const auto run = load_run(folder / "tiny-GPTQ");
  ASSERT_EQ(run.artifacts.size(), 1u);
  EXPECT_EQ(run.artifacts[0].name(), "tiny-GPTQ");
  EXPECT_EQ(run.evaluations[0].artifact("tiny-Q4_K_M.gguf"), nullptr);
}

TEST(Record, ASweepKnowsItsKeysTextsAndFailures) {
  const testing::TempFolder folder;
  write(folder / "sweep/results.csv", kResults);
  EXPECT_EQ(kind_of(folder / "sweep"), FolderKind::kSweep);
  const Sweep sweep = load_sweep(folder / "sweep");
  EXPECT_THAT(sweep.swept, ElementsAre("quantization.bits", "quantization.group_size"));
  EXPECT_THAT(sweep.texts, ElementsAre("prose", "code"));
  ASSERT_EQ(sweep.points.size(), 4u);
  EXPECT_EQ(sweep.points[3].error, "E401: not positive definite, even with \"damping\" <0.25>");
}

TEST(Record, ATableThatIsNoSweepsIsRefused) {
  const testing::TempFolder folder;
  write(folder / "sweep/results.csv", "a,b\n1,2\n");
  expect_error("E252", "results.csv:1", [&] { load_sweep(folder / "sweep"); });
}

}  // namespace
}  // namespace calque::report
