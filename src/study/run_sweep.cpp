#include "calque/study/run_sweep.h"

#include <fmt/format.h>

#include <charconv>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "calque/config/job_file.h"
#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "calque/pipeline/quantize_model.h"
#include "calque/resume/shared_work.h"
#include "calque/study/results_csv.h"
#include "study/claims.h"

namespace calque::study {
namespace {

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::kConfig, "E192", message);
}

}  // namespace

std::set<int> parse_points(const std::string& text, std::size_t points) {
  std::set<int> numbers;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = std::string_view(text).substr(begin, end - begin);
    const std::size_t dash = part.find('-');
    const auto first = number(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number(part.substr(dash + 1));
    if (!first || !last || *first < 1 || *last < *first || *last > static_cast<int>(points))
      refuse(
          fmt::format("--only takes numbers of points, such as 3,7-9; '{}' is not from 1 to {} "
                      "(calque sweep FILE --list shows them)",
                      part, points));
    for (int n = *first; n <= *last; ++n) numbers.insert(n);
    begin = end + 1;
  }
  return numbers;
}

void parse_shard(const std::string& text, Selection& selection) {
  const std::size_t slash = text.find('/');
  const auto shard = number(std::string_view(text).substr(0, slash));
  const auto shards =
      slash == std::string::npos ? std::nullopt : number(std::string_view(text).substr(slash + 1));
  if (!shard || !shards || *shard < 0 || *shards < 1 || *shard >= *shards)
    refuse(fmt::format("--shard takes i/n with i from 0 to n - 1, such as 0/4, not '{}'", text));
  selection.shard = *shard;
  selection.shards = *shards;
}

namespace {

namespace fs = std::filesystem;
using config::KeepArtifacts;

resume::SharedWork::Options sharing_of(const SweepPlan& plan) {
  const config::Sharing& share = plan.sweep.share;
  return {.folder = plan.sweep.output / "shared",
          .tokens = share.tokens,
          .reference = share.reference,
          .statistics = share.statistics};
}

void remove_artifacts(const Run& run) {
  std::error_code ignored;  // failing to remove files must not lose a result
  for (const formats::ExportRequest& request : run.job.exports)
    for (const fs::path& file : formats::files_at(request)) fs::remove_all(file, ignored);
}

class SweepRun {
 public:
  SweepRun(const SweepPlan& plan, const Selection& selection, SweepObserver& observer)
      : plan_(plan),
        selection_(selection),
        observer_(observer),
        claims_(plan.sweep.output / "claims"),
        shared_(sharing_of(plan)),
        failed_before_(failed(read_results(plan))) {
    replace_file(plan.sweep.output / "sweep.resolved.yaml", config::resolved_yaml(plan.sweep));
  }

  Results run() {
    rebuild_tables();
    const std::vector<std::pair<const PlannedPoint*, const Run*>> selected = selected_runs();
    for (std::size_t i = 0; i < selected.size(); ++i) {
      const auto& [point, run] = selected[i];
      if (is_settled(*run)) continue;
      const auto claim = claims_.take(run->hash);
      if (!claim || is_settled(*run)) continue;  // another process was faster
      observer_.run_started(*point, *run, i + 1, selected.size());
      const RunResult result = attempt(*run);
      tidy_artifacts();
      rebuild_tables();
      observer_.run_ended(result);
      if (!result.done() && plan_.sweep.stop_on_failure) break;
    }
    return read_results(plan_);
  }

 private:
  static std::set<std::string> failed(const Results& results) {
    std::set<std::string> hashes;
    for (const auto& [hash, result] : results)
      if (!result.done()) hashes.insert(hash);
    return hashes;
  }

  std::vector<std::pair<const PlannedPoint*, const Run*>> selected_runs() const {
    std::vector<std::pair<const PlannedPoint*, const Run*>> runs;
    for (const PlannedPoint& planned : plan_.points)
      if (selection_.has(planned.point.number))
        for (const Run& run : planned.runs) runs.emplace_back(&planned, &run);
    return runs;
  }

  // True if the run is done, or has failed since this process began.
  bool is_settled(const Run& run) const {
    const auto result = read_result(plan_.folder_of(run));
    return result && (result->done() || failed_before_.count(run.hash) == 0);
  }

  RunResult attempt(const Run& run) {
    failed_before_.erase(run.hash);
    RunResult result = run.refusal.any() ? result_of(run, nullptr) : measure(run);
    write_result(plan_.folder_of(run), result);
    return result;
  }

  // Records the failure of a job instead of ending the sweep.
  RunResult measure(const Run& run) {
    RunResult failure = result_of(run, nullptr);
    try {
      return quantize(run);
    } catch (const Error& error) {
      failure.failure = {error.code(), error.what()};
    } catch (const std::bad_alloc&) {
      failure.failure = {"E304", "out of memory"};
    } catch (const std::exception& error) {
      failure.failure = {"", error.what()};
    }
    remove_artifacts(run);
    return failure;
  }

  // Continues where a killed process left the run, unless what it left is damaged or the files it
  // read have changed.
  record::Report go_on_or_start(const job::Job& job, pipeline::RunOptions options) {
    options.resume = resume::Resume::kAuto;
    try {
      return pipeline::quantize_model(job, observer_, options);
    } catch (const Error& error) {
      if (error.code() != "E305" && error.code() != "E307" && error.code() != "E308") throw;
    }
    options.resume = resume::Resume::kNever;
    return pipeline::quantize_model(job, observer_, options);
  }

  RunResult quantize(const Run& run) {
    const std::string yaml = config::resolved_yaml(run.job);
    fs::create_directories(run.job.run_dir);
    replace_file(run.job.run_dir / "job.resolved.yaml", yaml);
    const bool keeps = plan_.sweep.keep_artifacts != KeepArtifacts::kNone;
    const record::Report report =
        go_on_or_start(run.job, {.shared = &shared_,
                                 .settings = config::settings_of(run.job),
                                 .resolved_yaml = keeps ? yaml : std::string()});
    RunResult result = result_of(run, &report);
    result.shared = shared_.taken();
    result.artifacts_kept = keeps;
    if (!keeps) remove_artifacts(run);
    return result;
  }

  // A beaten point stays beaten, so any process may remove its artifacts at any time.
  void tidy_artifacts() {
    if (plan_.sweep.keep_artifacts != KeepArtifacts::kPareto) return;
    const Results results = read_results(plan_);
    const std::set<int> front = pareto_points(plan_, results);
    for (const PlannedPoint& planned : plan_.points)
      for (const Run& run : planned.runs) {
        const auto found = results.find(run.hash);
        const bool kept = found != results.end() && found->second.artifacts_kept;
        const bool complete =
            front.count(planned.point.number) > 0 || !is_measured(planned, results);
        if (!kept || complete) continue;
        remove_artifacts(run);
        RunResult without = found->second;
        without.artifacts_kept = false;
        write_result(plan_.folder_of(run), without);
      }
  }

  // Only a measured point can be compared with others.
  bool is_measured(const PlannedPoint& planned, const Results& results) const {
    for (const Run& run : planned.runs) {
      const auto found = results.find(run.hash);
      if (found == results.end() || !found->second.done() ||
          found->second.artifacts.front().texts.empty())
        return false;
    }
    return true;
  }

  void rebuild_tables() const {
    const Results results = read_results(plan_);
    replace_file(plan_.sweep.output / "results.csv", results_csv(plan_, results));
    replace_file(plan_.sweep.output / "runs.csv", runs_csv(plan_, results));
  }

  const SweepPlan& plan_;
  const Selection& selection_;
  SweepObserver& observer_;
  Claims claims_;
  resume::SharedWork shared_;
  std::set<std::string> failed_before_;
};

}  // namespace

Results run_sweep(const SweepPlan& plan, const Selection& selection, SweepObserver& observer) {
  return SweepRun(plan, selection, observer).run();
}

}  // namespace calque::study
