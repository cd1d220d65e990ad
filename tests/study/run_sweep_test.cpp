#include "calque/study/run_sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/record/report_json.h"
#include "study/sweep_folder.h"

namespace calque::study {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// Records the points that ran, in order.
class Recorder : public SweepObserver {
 public:
  void run_started(const PlannedPoint& point, const Run& run, std::size_t, std::size_t) override {
    started.push_back(std::to_string(point.point.number) +
                      (run.replicate > 0 ? "r" + std::to_string(run.replicate) : ""));
  }
  std::vector<std::string> started;
};

std::vector<std::string> run(const SweepPlan& plan, const Selection& selection = {}) {
  Recorder recorder;
  run_sweep(plan, selection, recorder);
  return recorder.started;
}

std::vector<std::string> statuses(const SweepPlan& plan) {
  std::vector<std::string> all;
  for (const PointState& state : point_states(plan, read_results(plan))) all.push_back(state.state);
  return all;
}

std::string artifact_bytes(const Run& run) {
  std::ifstream file(run.job.exports.at(0).path / "model.safetensors", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(RunSweep, DoesEveryPointOnce) {
  const SweepFolder folder;
  const SweepPlan plan = folder.plan("grid: {bits: [2, 3, 4]}\n");
  EXPECT_THAT(run(plan), ElementsAre("1", "2", "3"));
  EXPECT_THAT(run(plan), IsEmpty());
  EXPECT_THAT(statuses(plan), ElementsAre("done", "done", "done"));
  EXPECT_TRUE(fs::is_empty(folder / "sweep" / "claims"));
  EXPECT_FALSE(fs::exists(folder / "elsewhere"));
}

TEST(Progress, IsEstimatedFromShapesBeforeARunHasEnded) {
  const SweepFolder folder;
  const SweepPlan plan = folder.plan("grid: {bits: [3, 4]}\n");
  const Progress before = progress_of(plan, {});
  EXPECT_EQ(before.pending, 2u);
  EXPECT_THAT(before.remaining_seconds, ::testing::Optional(::testing::Gt(0.0)));
  run(plan);
  EXPECT_THAT(progress_of(plan, read_results(plan)).remaining_seconds, ::testing::Optional(0.0));
}

TEST(RunSweep, DoesOnlyWhatIsSelected) {
  const SweepFolder folder;
  const SweepPlan plan = folder.plan("grid: {bits: [2, 3, 4, 8]}\n");
  EXPECT_THAT(run(plan, {.only = parse_points("2-3", 4)}), ElementsAre("2", "3"));
  EXPECT_THAT(statuses(plan), ElementsAre("pending", "done", "done", "pending"));
  Selection shard;
  parse_shard("1/2", shard);
  EXPECT_THAT(run(plan, shard), ElementsAre("4"));  // points 2 and 4 are selected, 2 is done
}

TEST(RunSweep, DoesNotRepeatPointsThatAnotherSweepFileHad) {
  const SweepFolder folder;
  run(folder.plan("grid: {bits: [2, 4]}\n"));
  EXPECT_THAT(run(folder.plan("grid: {bits: [3, 4]}\n")), ElementsAre("1"));
}

int times_resumed(const Run& run) {
  const std::string metrics = io::read_file(run.job.run_dir / "metrics.json");
  return record::report_from(io::parse_json(metrics)).resumed;
}

// Ends the process at once when the second block is done; the first is saved by then.
class KilledAfterTwoBlocks : public Recorder {
 public:
  void block_done(Index block, Index, double) override {
    if (block == 1) ::_exit(0);
  }
};

TEST(RunSweep, ContinuesAPointWhoseProcessWasKilled) {
  const SweepFolder folder;
  const SweepPlan plan = folder.plan(
      "set: {runtime.checkpoint: block, runtime.threads: 1}\ngrid: {bits: [3]}\n"
      "keep_artifacts: all\n");
  const pid_t child = ::fork();
  if (child == 0) {
    KilledAfterTwoBlocks killed;
    run_sweep(plan, {}, killed);
    ::_exit(1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_THAT(run(plan), ElementsAre("1"));
  const study::Run& point = plan.points[0].runs[0];
  EXPECT_EQ(times_resumed(point), 1);
  const std::string continued = artifact_bytes(point);
  fs::remove_all(folder / "sweep");
  run(plan);
  EXPECT_EQ(times_resumed(point), 0);
  EXPECT_EQ(artifact_bytes(point), continued);
}

TEST(RunSweep, GoesOnAfterAFailureAndTriesItOnceMoreLater) {
  const SweepFolder folder;
  const SweepPlan plan = folder.plan("grid: {bits: [2, 4]}\n");
  // The output path of the second point is blocked.
  const fs::path blocked = plan.points[0].runs[0].job.run_dir;
  fs::create_directories(blocked.parent_path());
  std::ofstream(blocked) << "a file";
  EXPECT_THROW(run(plan), Error);  // its result cannot be written either
  fs::remove(blocked);
  fs::create_directories(blocked / "modules.csv");  // its log cannot be opened
  EXPECT_THAT(run(plan), ElementsAre("1", "2"));
  EXPECT_THAT(statuses(plan), ElementsAre("failed", "done"));
  EXPECT_THAT(folder.read("sweep/results.csv"), HasSubstr(",failed,"));
  fs::remove_all(blocked / "modules.csv");
  EXPECT_THAT(run(plan), ElementsAre("1"));
  EXPECT_THAT(statuses(plan), ElementsAre("done", "done"));
}

TEST(RunSweep, StopsAtTheFirstFailureIfAsked) {
  const SweepFolder folder;
  const SweepPlan plan =
      folder.plan("grid: {group_size: [48, 32]}\non_invalid: skip\non_failure: stop\n");
  EXPECT_THAT(run(plan), ElementsAre("1"));
  EXPECT_THAT(statuses(plan), ElementsAre("failed", "pending"));
}

TEST(RunSweep, ListsPointsThatCannotWorkAsFailed) {
  const SweepFolder folder;
  const SweepPlan plan = folder.plan("grid: {group_size: [48, 32]}\non_invalid: skip\n");
  run(plan);
  EXPECT_THAT(statuses(plan), ElementsAre("failed", "done"));
  EXPECT_THAT(folder.read("sweep/results.csv"),
              AllOf(HasSubstr(",failed,\"E131: "), HasSubstr("group_size 48 does not divide")));
}

TEST(RunSweep, KeepsArtifactsAsAsked) {
  const SweepFolder folder;
  const SweepPlan none = folder.plan("grid: {bits: [2]}\n");
  run(none);
  EXPECT_FALSE(fs::exists(none.points[0].runs[0].job.exports[0].path));
  const SweepPlan all = folder.plan("grid: {bits: [3]}\nkeep_artifacts: all\n");
  run(all);
  EXPECT_TRUE(fs::exists(all.points[0].runs[0].job.exports[0].path / "SHA256SUMS"));
}

// The same artifacts, whatever is shared; what is shared is named, and takes no time.
TEST(RunSweep, SharingChangesNoByte) {
  const SweepFolder folder;
  folder.write_measuring_job();
  const std::string grid =
      "grid: {bits: [3, 4], quantization.refine_passes: [0, 4]}\nkeep_artifacts: all\n";
  const SweepPlan sharing = folder.plan(grid);
  run(sharing);
  const Results shared = read_results(sharing);
  std::vector<std::string> bytes;
  for (const PlannedPoint& planned : sharing.points)
    bytes.push_back(artifact_bytes(planned.runs[0]));
  const RunResult& first = shared.at(sharing.points[0].runs[0].hash);
  const RunResult& last = shared.at(sharing.points[3].runs[0].hash);
  EXPECT_THAT(first.shared, IsEmpty());
  std::vector<std::string> taken;
  for (const auto& t : last.shared) taken.push_back(t.what);
  EXPECT_THAT(taken, UnorderedElementsAre("tokens", "statistics", "reference"));
  EXPECT_GT(first.forward_seconds, 0);
  EXPECT_EQ(last.forward_seconds, 0);
  EXPECT_GT(progress_of(sharing, shared).saved_seconds, 0);

  fs::remove_all(folder / "sweep");
  const SweepPlan alone = folder.plan(grid + "share: []\n");
  run(alone);
  const Results separate = read_results(alone);
  EXPECT_FALSE(fs::exists(folder / "sweep" / "shared"));
  for (std::size_t i = 0; i < alone.points.size(); ++i) {
    const study::Run& point = alone.points[i].runs[0];
    EXPECT_EQ(artifact_bytes(point), bytes[i]);
    EXPECT_THAT(separate.at(point.hash).shared, IsEmpty());
    const TextResult& a = separate.at(point.hash).artifacts[0].texts[0];
    const TextResult& b = shared.at(point.hash).artifacts[0].texts[0];
    EXPECT_EQ(a.kl_mean, b.kl_mean);
    EXPECT_EQ(a.ppl_original, b.ppl_original);
  }
}

// 2 bits are smaller and farther, 4 bits larger and nearer; zero points make a 4-bit artifact that
// is larger than one of 3 bits.
TEST(RunSweep, KeepsTheParetoFront) {
  const SweepFolder folder;
  folder.write_measuring_job();
  const SweepPlan plan =
      folder.plan("grid: {bits: [2, 4], group_size: [32, -1]}\nkeep_artifacts: pareto\n");
  run(plan);
  const Results results = read_results(plan);
  const std::set<int> front = pareto_points(plan, results);
  EXPECT_FALSE(front.empty());
  for (const PlannedPoint& planned : plan.points) {
    const study::Run& r = planned.runs[0];
    const bool on_front = front.count(planned.point.number) > 0;
    EXPECT_EQ(fs::exists(r.job.exports[0].path), on_front) << planned.point.number;
    EXPECT_EQ(results.at(r.hash).artifacts_kept, on_front);
  }
}

TEST(RunSweep, FoldsReplicates) {
  const SweepFolder folder;
  folder.write_measuring_job();
  const SweepPlan plan = folder.plan("grid: {bits: [4]}\nreplicates: {n_samples: [2, 4]}\n");
  EXPECT_THAT(run(plan), ElementsAre("1", "1r1"));
  const std::string csv = folder.read("sweep/results.csv");
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 2);
  const std::string runs = folder.read("sweep/runs.csv");
  EXPECT_EQ(std::count(runs.begin(), runs.end(), '\n'), 3);
}

TEST(Selection, UnderstandsNumbersAndRanges) {
  EXPECT_THAT(parse_points("3,7-9", 9), ElementsAre(3, 7, 8, 9));
  for (const char* wrong : {"", "0", "10", "3-", "a", "4-2", "1,,2"})
    EXPECT_THROW(parse_points(wrong, 9), Error) << wrong;
  Selection selection;
  for (const char* wrong : {"", "1", "2/2", "-1/2", "0/0", "a/b"})
    EXPECT_THROW(parse_shard(wrong, selection), Error) << wrong;
}

}  // namespace
}  // namespace calque::study
