#include "calque/study/sweep_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"
#include "study/sweep_folder.h"

namespace calque::study {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Refusal {
  std::string code;
  std::string message;
};
Refusal refusal(const SweepFolder& folder, const std::string& rest) {
  try {
    folder.plan(rest);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << "accepted: " << rest;
  return {};
}

TEST(SweepPlan, GivesEveryPointItsJobInAFolderOfItsOwn) {
  const SweepFolder folder;
  const SweepPlan plan = folder.plan("set: {sym: false}\ngrid: {bits: [4, 8]}\n");
  ASSERT_EQ(plan.points.size(), 2u);
  const study::Run& run = plan.points[1].runs.at(0);
  EXPECT_EQ(run.job.quantization.grid.bits, 8);
  EXPECT_FALSE(run.job.quantization.grid.sym);
  EXPECT_EQ(run.job.run_dir, folder / "sweep" / "points" / run.hash);
  EXPECT_EQ(run.job.exports.at(0).path, run.job.run_dir / "model-GPTQ-Int8-g32");
  EXPECT_GT(run.tensor_bytes, plan.points[0].runs.at(0).tensor_bytes);
}

TEST(SweepPlan, HashesFollowWhatAJobComputesAndReads) {
  const SweepFolder folder;
  const std::string sweep = "grid: {bits: [4]}\n";
  const std::string hash = folder.plan(sweep).points[0].runs[0].hash;
  EXPECT_EQ(folder.plan("name: other\n" + sweep).points[0].runs[0].hash, hash);
  std::string job = folder.read("job.yaml");
  folder.write("job.yaml", job + "name: other\nrun_dir: elsewhere\n");
  EXPECT_EQ(folder.plan(sweep).points[0].runs[0].hash, hash);
  folder.write("job.yaml", job + "publish: {checksums: false}\n");
  EXPECT_NE(folder.plan(sweep).points[0].runs[0].hash, hash);
  folder.write("job.yaml", job);
  folder.write("model/config.json", folder.read("model/config.json") + "\n");
  EXPECT_NE(folder.plan(sweep).points[0].runs[0].hash, hash);
}

TEST(SweepPlan, RefusesAllPointsThatCannotWorkAtOnce) {
  const SweepFolder folder;
  const auto [code, message] = refusal(folder, "grid: {group_size: [32, 48, 80]}\n");
  EXPECT_EQ(code, "E186");
  EXPECT_THAT(message, AllOf(HasSubstr("2 of 3 points are invalid"),
                             HasSubstr("point 2 (group_size 48): [E131]"),
                             HasSubstr("point 3 (group_size 80): [E131]")));
  EXPECT_FALSE(std::filesystem::exists(folder / "sweep"));
}

TEST(SweepPlan, KeepsThemAsRefusedIfAsked) {
  const SweepFolder folder;
  const SweepPlan plan = folder.plan("grid: {group_size: [32, 48]}\non_invalid: skip\n");
  EXPECT_FALSE(plan.points[0].runs[0].refusal.any());
  EXPECT_EQ(plan.points[1].runs[0].refusal.code, "E131");
}

// desc_act false is the default.
TEST(SweepPlan, RefusesTwoPointsThatAreOneJob) {
  const SweepFolder folder;
  const auto [code, message] =
      refusal(folder,
              "paired:\n  - {export.0.max_shard_size: 5GB}\n  - {export.0.max_shard_size: "
              "5000000000}\n");
  EXPECT_EQ(code, "E185");
  EXPECT_THAT(message, HasSubstr("point 1 (max_shard_size 5GB) and point 2 (max_shard_size "
                                 "5000000000) are the same job"));
}

TEST(SweepPlan, SharesStatisticsOnlyWhereTheyAreTheSame) {
  const SweepFolder folder;
  folder.write_measuring_job();
  const SweepPlan plan = folder.plan("grid: {bits: [4, 8]}\n");
  EXPECT_TRUE(plan.sweep.share.statistics);
  EXPECT_GT(plan.statistics_bytes, 0u);

  const std::string propagating = "set: {propagate_error: true}\ngrid: {bits: [4, 8]}\n";
  const SweepPlan default_share = folder.plan(propagating);
  EXPECT_FALSE(default_share.sweep.share.statistics);
  EXPECT_EQ(default_share.statistics_bytes, 0u);
  const auto [code, message] = refusal(folder, propagating + "share: [tokens, statistics]\n");
  EXPECT_EQ(code, "E187");
  EXPECT_THAT(message, HasSubstr("needs quantization.propagate_error: false"));
}

// Seeds change the text, so each has statistics of its own; bits do not.
TEST(SweepPlan, CountsTheDiskOfEverySetOfStatistics) {
  const SweepFolder folder;
  folder.write_measuring_job();
  const std::string grid = "grid: {bits: [4, 8]}\n";
  EXPECT_EQ(folder.plan(grid + "replicates: {n_samples: [2, 3, 4]}\n").statistics_bytes,
            3 * folder.plan(grid).statistics_bytes);
}

}  // namespace
}  // namespace calque::study
