#include "calque/study/sweep_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <set>
#include <utility>

#include "calque/config/job_file.h"
#include "calque/core/error.h"
#include "calque/pipeline/open_job.h"
#include "calque/resume/statistics_store.h"
#include "study/artifact_names.h"

namespace calque::study {
namespace {

using config::Settings;

std::vector<std::string> assignments(const Settings& set, const Settings& point,
                                     const Settings& replicate) {
  std::vector<std::string> all;
  for (const Settings* settings : {&set, &point, &replicate})
    for (const config::Setting& setting : *settings) all.push_back(setting.assignment());
  return all;
}

std::string shown(const Settings& settings) {
  std::vector<std::string> parts;
  for (const config::Setting& s : settings)
    parts.push_back(fmt::format("{} {}", config::short_name_of(s.path), s.value));
  return fmt::format("{}", fmt::join(parts, ", "));
}

// What the job writes goes into the run's own folder. Runs of a sweep are short, and one that was
// stopped is done anew, so nothing is saved on the way.
void move_outputs(job::Job& job, const std::filesystem::path& folder) {
  name_artifacts(job, folder);
  job.run_dir = folder;
  job.runtime.checkpoint = "off";
  if (!job.calibration.save_imatrix.empty())
    job.calibration.save_imatrix = folder / job.calibration.save_imatrix.filename();
}

void predict(Run& run) {
  const pipeline::OpenedJob opened = pipeline::open_job(run.job);
  run.tensor_bytes = opened.plans.front().tensor_bytes;
  run.bits_per_weight = opened.plans.front().bits_per_weight;
  run.statistics_bytes = resume::statistics_bytes(opened.source.family);
}

Run make_run(const config::SweepFile& sweep, const Point& point, int replicate) {
  Run run;
  run.point = point.number;
  run.replicate = replicate;
  run.settings = point.replicates[static_cast<std::size_t>(replicate)];
  try {
    run.job = config::load_job(sweep.base, assignments(sweep.set, point.settings, run.settings));
    run.hash = hash_of(run.job);
    move_outputs(run.job, sweep.output / "points" / run.hash);
    predict(run);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kConfig && error.code() != "E301") throw;
    run.refusal = {error.code(), error.what()};
    if (run.hash.empty()) run.hash = fmt::format("invalid-{}-{}", point.number, replicate);
  }
  return run;
}

void refuse_invalid(const std::vector<PlannedPoint>& points) {
  std::vector<std::string> reasons;
  for (const PlannedPoint& planned : points)
    for (const Run& run : planned.runs) {
      if (!run.refusal.any()) continue;
      reasons.push_back(fmt::format("point {} ({}): [{}] {}", planned.point.number,
                                    shown(planned.point.settings), run.refusal.code,
                                    run.refusal.message));
      break;
    }
  if (reasons.empty()) return;
  throw Error(ErrorKind::kConfig, "E186",
              fmt::format("{} of {} points cannot work; nothing was run. Exclude them, or set "
                          "on_invalid: skip to have them in the table as failed:\n  {}",
                          reasons.size(), points.size(), fmt::join(reasons, "\n  ")));
}

void refuse_duplicates(const std::vector<PlannedPoint>& points) {
  std::map<std::string, const PlannedPoint*> first;
  for (const PlannedPoint& planned : points)
    for (const Run& run : planned.runs) {
      const auto [place, is_new] = first.try_emplace(run.hash, &planned);
      if (is_new) continue;
      const PlannedPoint& other = *place->second;
      throw Error(
          ErrorKind::kConfig, "E185",
          fmt::format("point {} ({}) and point {} ({}){} are the same job: what differs has "
                      "no effect. Exclude one, or leave the key out",
                      other.point.number, shown(other.point.settings), planned.point.number,
                      shown(planned.point.settings),
                      run.replicate > 0 ? ", or their replicates," : ""));
    }
}

// Whether any run could use statistics of another.
bool measures_the_original(const Run& run) {
  return !run.refusal.any() && !run.job.quantization.propagate_error && run.job.calibration.given();
}

void settle_sharing(SweepPlan& plan) {
  config::Sharing& share = plan.sweep.share;
  if (!share.statistics) return;
  std::size_t measuring = 0;
  const Run* propagating = nullptr;
  std::map<std::string, std::uint64_t> sets;  // bytes of each
  for (const PlannedPoint& planned : plan.points)
    for (const Run& run : planned.runs) {
      if (measures_the_original(run)) {
        ++measuring;
        sets.try_emplace(calibration_identity(run.job), 0);
      } else if (!run.refusal.any() && run.job.quantization.propagate_error) {
        propagating = &run;
      }
    }
  if (share.asked && propagating && measuring == 0)
    throw Error(ErrorKind::kConfig, "E187",
                "share: statistics needs quantization.propagate_error: false: otherwise what a "
                "layer sees depends on how the layers before it were rounded, and no two points "
                "have the same. Set it in `set`, or remove statistics from share");
  if (propagating)
    plan.notes.push_back("statistics are measured anew for every point with propagate_error: true");
  share.statistics = measuring > 0;
  for (const PlannedPoint& planned : plan.points)
    for (const Run& run : planned.runs)
      if (measures_the_original(run)) {
        std::uint64_t& bytes = sets.at(calibration_identity(run.job));
        if (bytes == 0) plan.statistics_bytes += bytes = run.statistics_bytes;
      }
}

}  // namespace

std::size_t SweepPlan::run_count() const {
  std::size_t count = 0;
  for (const PlannedPoint& planned : points) count += planned.runs.size();
  return count;
}

SweepPlan plan_sweep(const config::SweepFile& sweep) {
  SweepPlan plan{sweep, {}, 0, {}};
  for (Point& point : expand(sweep)) {
    PlannedPoint planned{std::move(point), {}};
    for (std::size_t r = 0; r < planned.point.replicates.size(); ++r)
      planned.runs.push_back(make_run(sweep, planned.point, static_cast<int>(r)));
    plan.points.push_back(std::move(planned));
  }
  if (!sweep.skip_invalid) refuse_invalid(plan.points);
  refuse_duplicates(plan.points);
  settle_sharing(plan);
  return plan;
}

}  // namespace calque::study
