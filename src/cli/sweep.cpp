#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <string>

#include "calque/config/sweep_file.h"
#include "calque/study/run_sweep.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/sweep_failure.h"
#include "cli/sweep_tables.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

struct SweepArguments {
  std::string sweep_file;
  std::string only;
  std::string shard;
  std::string progress = "auto";
  bool list = false;
  bool json = false;
  bool quiet = false;
};

// Prints one line per run, and on a terminal also the progress of the current one.
class SweepProgress : public study::SweepObserver {
 public:
  explicit SweepProgress(ProgressMode mode)
      : mode_(mode), terminal_(mode, std::cerr, terminal_width()) {}

  void run_started(const study::PlannedPoint& point, const study::Run& run, std::size_t position,
                   std::size_t count) override {
    head_ = fmt::format("[{:{}}/{}] point {}  {}", position, std::to_string(count).size(), count,
                        point.point.number, settings_text(point.point.settings));
    if (point.runs.size() > 1) head_ += "  " + settings_text(run.settings);
  }
  void run_ended(const study::RunResult& result) override {
    if (mode_ == ProgressMode::kNone) return;
    terminal_.note(head_ + "  " + outcome(result));
  }
  void phase_started(const std::string& title, Index steps) override {
    if (is_terminal()) terminal_.phase_started(title, steps);
  }
  void step(Index done) override {
    if (is_terminal()) terminal_.step(done);
  }
  void module_done(const record::ModuleReport& module) override {
    if (is_terminal()) terminal_.module_done(module);
  }
  void note(const std::string& line) override {
    if (is_terminal()) terminal_.note(line);
  }
  void warning(const std::string& line) override {
    if (mode_ != ProgressMode::kNone) terminal_.warning(head_ + ": " + line);
  }

 private:
  bool is_terminal() const { return mode_ == ProgressMode::kTty; }
  static std::string outcome(const study::RunResult& result) {
    if (!result.done())
      return fmt::format("failed [{}] {}", result.failure.code, printable(result.failure.message));
    std::string text = duration_text(result.seconds);
    if (!result.artifacts.empty() && !result.artifacts.front().texts.empty())
      text += fmt::format("  KL {:.5f}", result.artifacts.front().texts.front().kl_mean);
    return text;
  }

  ProgressMode mode_;
  Progress terminal_;
  std::string head_;
};

std::set<int> numbers_of(const study::SweepPlan& plan, const study::Selection& selection) {
  std::set<int> numbers;
  for (const study::PlannedPoint& planned : plan.points)
    if (selection.has(planned.point.number)) numbers.insert(planned.point.number);
  return numbers;
}

std::string estimate(const study::Progress& progress) {
  if (progress.pending == 0) return "nothing left to do";
  if (progress.done == 0)
    return fmt::format("about {} in total (estimated from shapes)",
                       duration_text(*progress.remaining_seconds));
  return fmt::format("about {} left (from the mean of {} runs)",
                     duration_text(*progress.remaining_seconds), progress.done);
}

std::string summary(const study::SweepPlan& plan, const study::Results& results,
                    const study::Selection& selection) {
  const study::Progress progress = study::progress_of(plan, results, numbers_of(plan, selection));
  std::string text = fmt::format("{} points, {} runs: {} done, {} failed, {} to do; {}\n",
                                 plan.points.size(), plan.run_count(), progress.done,
                                 progress.failed, progress.pending, estimate(progress));
  if (progress.spent_seconds > 0)
    text += fmt::format("Runs took {}; sharing saved {}\n", duration_text(progress.spent_seconds),
                        duration_text(progress.saved_seconds));
  return text;
}

void print_list(const study::SweepPlan& plan, const study::Selection& selection) {
  const study::Results results = study::read_results(plan);
  fmt::print("{}\n{}", points_table(plan, results, selection), summary(plan, results, selection));
  if (plan.statistics_bytes > 0)
    fmt::print("Shared statistics take up to {} in {}\n", bytes_text(plan.statistics_bytes),
               printable((plan.sweep.output / "shared").string()));
  for (const std::string& note : plan.notes) fmt::print("{}\n", note);
}

void print_results(const study::SweepPlan& plan, const study::Results& results,
                   const study::Selection& selection) {
  fmt::print("{}\n", sweep_table(plan, results, selection));
  if (const auto nearest = study::nearest_point(plan, results))
    fmt::print("* no other point is both smaller and closer to the original. Lowest KL: point {}\n",
               *nearest);
  fmt::print("{}{}\nPlots and tables: calque report {}\n", summary(plan, results, selection),
             printable((plan.sweep.output / "results.csv").string()),
             shell_quoted(plan.sweep.output));
}

void end_with_failures(const study::SweepPlan& plan, const study::Results& results,
                       const study::Selection& selection) {
  const study::Progress progress = study::progress_of(plan, results, numbers_of(plan, selection));
  if (progress.failed == 0) return;
  throw SweepFailure(fmt::format(
      "{} of {} runs failed; results.csv has their errors. The same command tries them again",
      progress.failed, progress.done + progress.failed + progress.pending));
}

void sweep(const SweepArguments& arguments) {
  const study::SweepPlan plan = study::plan_sweep(config::load_sweep(arguments.sweep_file));
  study::Selection selection;
  if (!arguments.only.empty())
    selection.only = study::parse_points(arguments.only, plan.points.size());
  if (!arguments.shard.empty()) study::parse_shard(arguments.shard, selection);
  if (arguments.list) {
    if (arguments.json)
      fmt::print("{}", sweep_json(plan, study::read_results(plan), selection));
    else
      print_list(plan, selection);
    return;
  }
  SweepProgress progress(progress_mode(arguments.quiet ? "none" : arguments.progress));
  if (!arguments.quiet && plan.statistics_bytes > 0)
    fmt::print(stderr, "shared statistics take up to {} in {}\n", bytes_text(plan.statistics_bytes),
               printable((plan.sweep.output / "shared").string()));
  const study::Results results = study::run_sweep(plan, selection, progress);
  if (arguments.json)
    fmt::print("{}", sweep_json(plan, results, selection));
  else
    print_results(plan, results, selection);
  end_with_failures(plan, results, selection);
}

}  // namespace

Command sweep_command(const CommandContext&) {
  const auto a = std::make_shared<SweepArguments>();
  return {
      "sweep",
      "Run a job file with many settings and collect the results in one table.",
      {Option{"sweep", &a->sweep_file, "The sweep file (configs/README.md)."}.required().path(),
       {"--list", &a->list, "List the points with their numbers and predicted sizes; run nothing."},
       {"--only", &a->only, "Run only these points, such as 3,7-9."},
       {"--shard", &a->shard,
        "i/n, with i from 0: run every n-th point. Not needed if the processes share the output "
        "folder: each then takes the next free point."},
       progress_option(a->progress,
                       "auto, tty (redraws the last line), plain (one line per run), none."),
       {"--quiet,-q", &a->quiet, "No progress, notes or warnings on stderr."},
       json_option(a->json, "Print points and results as JSON.")},
      "  calque sweep configs/sweep.yaml --list\n"
      "  calque sweep configs/sweep.yaml\n"
      "  calque sweep sweep.yaml --only 3,7-9\n"
      "  calque sweep sweep.yaml --shard $SLURM_ARRAY_TASK_ID/16",
      [a] { sweep(*a); }};
}

}  // namespace calque::cli
