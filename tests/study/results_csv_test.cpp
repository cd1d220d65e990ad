#include "calque/study/results_csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace calque::study {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

PlannedPoint planned(int number, const std::string& bits, int replicates) {
  PlannedPoint p;
  p.point.number = number;
  p.point.settings = {{"quantization.bits", bits}};
  for (int r = 0; r < replicates; ++r) {
    Run run;
    run.point = number;
    run.replicate = r;
    run.hash = bits + "-" + std::to_string(r);
    run.job.quantization.grid.bits = std::stoi(bits);
    run.job.exports.emplace_back().format = "gptq";
    run.job.exports.back().path = "tiny-GPTQ";
    p.runs.push_back(run);
  }
  return p;
}

RunResult done(const Run& run, std::uint64_t bytes, double kl) {
  RunResult r = result_of(run, nullptr);
  r.artifacts = {{"tiny-GPTQ", "gptq", "", bytes, bytes - 8, 4.5, {{"prose", 64}}}};
  r.artifacts[0].texts[0].kl_mean = kl;
  r.artifacts[0].texts[0].ppl = 20;
  r.seconds = 2;
  r.peak_bytes = 1000 + bytes;
  return r;
}

// Three points of two replicates each; the last one has not run, of the second one failed.
struct Sweep {
  Sweep() {
    plan.points = {planned(1, "2", 2), planned(2, "4", 2), planned(3, "8", 2)};
    put(done(plan.points[0].runs[0], 100, 0.25));
    put(done(plan.points[0].runs[1], 100, 0.75));
    put(done(plan.points[1].runs[0], 200, 0.1));
    RunResult failed = result_of(plan.points[1].runs[1], nullptr);
    failed.failure = {"E401", "no \"luck\", said\nthe matrix"};
    put(failed);
  }
  void put(const RunResult& result) { results[result.hash] = result; }

  SweepPlan plan;
  Results results;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Mean of 0.25 and 0.75 is 0.5, their sample deviation sqrt(2 * 0.25^2) = 0.353553.
TEST(ResultsCsv, HasOneRowAPointWithMeansOfItsReplicates) {
  const Sweep sweep;
  EXPECT_THAT(
      lines_of(results_csv(sweep.plan, sweep.results)),
      ElementsAre(
          "point,hash,status,error,quantization.bits,method,format,type,bits,group_size,sym,"
          "artifact_bytes,tensor_bytes,bits_per_weight,source_bytes,text,seqlen,ppl,"
          "ppl_uncertainty,ppl_original,kl_mean,kl_mean_uncertainty,kl_mean_sd,kl_median,kl_p99,"
          "top1_agreement,replicates,seconds,quantize_seconds,statistics_seconds,forward_seconds,"
          "evaluate_seconds,peak_bytes,shared",
          "1,2-0,done,,2,gptq,gptq,,2,128,true,100,92,4.5,0,prose,64,20,0,0,0.5,0,0.353553,0,"
          "0,0,2,2,0,0,0,0,1100,",
          "2,4-0,failed,\"E401: no \"\"luck\"\", said the matrix\",4,gptq,gptq,,4,128,true,,,,"
          ",,,,,,,,,,,,1,,,,,,1200,",
          "3,8-0,pending,,8,gptq,gptq,,8,128,true,,,,,,,,,,,,,,,,0,,,,,,,"));
}

TEST(ResultsCsv, NamesWhatWasShared) {
  Sweep sweep;
  sweep.results["2-1"].shared = {{"tokens", 1}, {"statistics", 5}};
  const std::string row = lines_of(results_csv(sweep.plan, sweep.results))[1];
  EXPECT_EQ(row.substr(row.rfind(',')), ",tokens+statistics");
  const Progress progress = progress_of(sweep.plan, sweep.results);
  EXPECT_EQ(progress.saved_seconds, 6);
  EXPECT_EQ(progress.spent_seconds, 6);  // three runs of two seconds, the failed one took none
  EXPECT_EQ(progress.done, 3u);
  EXPECT_EQ(progress.failed, 1u);
  EXPECT_THAT(progress.remaining_seconds, Optional(4.0));  // two runs of 6 / 3 seconds
}

TEST(Pareto, LeavesOutWhatIsBothLargerAndFarther) {
  SweepPlan plan;
  plan.points = {planned(1, "2", 1), planned(2, "3", 1), planned(3, "4", 1), planned(4, "8", 1)};
  Results results;
  const auto put = [&](std::size_t i, std::uint64_t bytes, double kl) {
    results[plan.points[i].runs[0].hash] = done(plan.points[i].runs[0], bytes, kl);
  };
  put(0, 100, 0.5);
  put(1, 120, 0.6);  // beaten by the first
  put(2, 120, 0.2);
  put(3, 200, 0.2);  // as near as the third, but larger
  EXPECT_THAT(pareto_points(plan, results), ElementsAre(1, 3));
  EXPECT_EQ(nearest_point(plan, results), 3);
}

TEST(ResultsCsv, HasColumnsForTasks) {
  Sweep sweep;
  for (PlannedPoint& point : sweep.plan.points)
    for (auto& run : point.runs) {
      run.job.evaluate.emplace();
      run.job.evaluate->tasks.emplace_back().file = "reading.jsonl";
    }
  int replicate = 0;
  for (const auto& run : sweep.plan.points[0].runs) {
    RunResult result = done(run, 100, 0.25);
    result.artifacts[0].tasks = {{.task = "reading",
                                  .metric = "acc",
                                  .value = 0.5 + 0.25 * replicate++,
                                  .original = 0.75,
                                  .p_value = 0.5}};
    sweep.put(result);
  }
  const std::vector<std::string> lines = lines_of(results_csv(sweep.plan, sweep.results));
  EXPECT_THAT(lines.at(0),
              ::testing::EndsWith(",task[reading],right[reading],right_uncertainty[reading],"
                                  "right_original[reading],right_difference[reading],"
                                  "right_difference_uncertainty[reading],mcnemar_p[reading]"));
  EXPECT_THAT(lines.at(1), ::testing::EndsWith(",acc,0.625,0,0.75,0,0,"));  // two replicates
  EXPECT_THAT(lines.at(3), ::testing::EndsWith(",,,,,,,"));
}

}  // namespace
}  // namespace calque::study
