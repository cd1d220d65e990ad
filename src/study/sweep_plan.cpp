#include "calque/study/sweep_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "calque/config/job_file.h"
#include "calque/core/error.h"
#include "calque/formats/format.h"
#include "calque/io/file.h"
#include "calque/io/hub_cache.h"
#include "calque/io/sha256.h"
#include "calque/pipeline/open_job.h"
#include "calque/resume/statistics_store.h"

namespace calque::study {
namespace {

using config::Exclusion;
using config::Setting;
using config::Settings;
using config::SweepAxis;

// Every combination, the last axis changing fastest; a single empty one if there are no axes.
std::vector<Settings> product(const std::vector<SweepAxis>& axes) {
  std::vector<Settings> combinations(1);
  for (const SweepAxis& axis : axes) {
    std::vector<Settings> longer;
    for (const Settings& so_far : combinations)
      for (const std::string& value : axis.values) {
        longer.push_back(so_far);
        longer.back().push_back({axis.path, value});
      }
    combinations = std::move(longer);
  }
  return combinations;
}

std::vector<Settings> with_paired(std::vector<Settings> grid, const std::vector<Settings>& paired) {
  if (paired.empty()) return grid;
  std::vector<Settings> all;
  for (const Settings& settings : grid)
    for (const Settings& entry : paired) {
      all.push_back(settings);
      all.back().insert(all.back().end(), entry.begin(), entry.end());
    }
  return all;
}

bool has(const std::vector<std::string>& values, const std::string& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool excludes(const Exclusion& exclusion, const Settings& point) {
  return std::all_of(exclusion.begin(), exclusion.end(), [&](const SweepAxis& axis) {
    return std::any_of(point.begin(), point.end(), [&](const Setting& setting) {
      return setting.path == axis.path && has(axis.values, setting.value);
    });
  });
}

// Refuses values that no point has: a typing error would silently exclude nothing.
void check_exclusion(const Exclusion& exclusion, const std::vector<Settings>& points) {
  for (const SweepAxis& axis : exclusion) {
    std::set<std::string> taken;
    for (const Settings& point : points)
      for (const Setting& setting : point)
        if (setting.path == axis.path) taken.insert(setting.value);
    for (const std::string& value : axis.values)
      if (taken.count(value) == 0)
        throw Error(ErrorKind::kConfig, "E184",
                    fmt::format("exclude names {}: {}, a value that no point has; values: {}",
                                axis.path, value, fmt::join(taken, ", ")));
  }
}

}  // namespace

std::vector<Point> expand(const config::SweepFile& sweep) {
  const std::vector<Settings> all = with_paired(product(sweep.grid), sweep.paired);
  for (const Exclusion& exclusion : sweep.exclude) check_exclusion(exclusion, all);
  std::vector<Point> points;
  for (const Settings& settings : all) {
    const bool excluded =
        std::any_of(sweep.exclude.begin(), sweep.exclude.end(),
                    [&](const Exclusion& exclusion) { return excludes(exclusion, settings); });
    if (excluded) continue;
    points.push_back({static_cast<int>(points.size()) + 1, settings, product(sweep.replicates)});
  }
  if (points.empty())
    throw Error(ErrorKind::kConfig, "E184", "exclude leaves no point of the sweep");
  return points;
}

namespace {

constexpr std::size_t kDigits = 16;

// The job without output paths: everything that decides its results.
job::Job without_outputs(job::Job job) {
  job.name = "point";
  job.run_dir = "run";
  job.runtime.offload_dir.clear();
  if (!job.calibration.save_imatrix.empty()) job.calibration.save_imatrix = "imatrix";
  for (formats::ExportRequest& request : job.exports) {
    request.path = "artifact";
    request.overwrite = true;
  }
  return job;
}

std::string inputs_of(const job::Job& job) {
  std::string identity = io::stamp_of(job.model.path);
  for (const text::TextSource& source : job.calibration.sources)
    identity += io::stamp_of(source.path);
  for (const auto& path : {job.calibration.tokens, job.quantization.imatrix})
    if (!path.empty()) identity += io::stamp_of(path);
  if (!job.evaluate) return identity;
  for (const job::EvaluationText& text : job.evaluate->named_texts())
    identity += io::stamp_of(text.file());
  for (const job::TaskSettings& task : job.evaluate->tasks) identity += io::stamp_of(task.file);
  return identity;
}

}  // namespace

std::string hash_of(const job::Job& job) {
  const std::string text = config::resolved_yaml(without_outputs(job)) + inputs_of(job);
  return io::sha256_hex(std::as_bytes(std::span(text))).substr(0, kDigits);
}

namespace {

namespace fs = std::filesystem;

std::string model_name(const fs::path& path) {
  if (io::hub_model_of(path)) return io::name_of_model(path);
  const fs::path whole = fs::weakly_canonical(path);
  return fs::is_directory(whole) ? whole.filename().string() : whole.stem().string();
}

std::string artifact_name(const job::Job& job, const formats::ExportRequest& request) {
  const formats::QuantizationRequest& grid = job.quantization.grid;
  const std::string model = model_name(job.model.path);
  const formats::Format& format = format_of(request);
  if (format.has_block_types) return fmt::format("{}-{}", model, request.type);
  if (!request.scheme.empty())
    return fmt::format("{}-{}-{}", model, format.short_label, request.scheme);
  return fmt::format("{}-{}-Int{}-{}", model, format.short_label, grid.bits,
                     grid.group_size > 0 ? fmt::format("g{}", grid.group_size) : "channel");
}

// Gives every export of the job a descriptive, unique name inside `folder` ("demo-GPTQ-Int3-g64",
// "demo-Q4_K_M.gguf") and lets it replace existing files.
void name_artifacts(job::Job& job, const fs::path& folder) {
  std::set<std::string> names;
  for (formats::ExportRequest& request : job.exports) {
    const std::string name = artifact_name(job, request);
    std::string unique = name;
    for (int n = 2; !names.insert(unique).second; ++n) unique = fmt::format("{}-{}", name, n);
    request.path = folder / (format_of(request).is_folder ? unique : unique + ".gguf");
    request.overwrite = true;
  }
}

// Model, calibration text and forward dtype: runs that agree in these have the same statistics, if
// they do not propagate errors.
std::string calibration_identity(const job::Job& job) {
  job::Job only;
  only.model = job.model;
  only.calibration = job.calibration;
  only.calibration.save_imatrix.clear();
  only.runtime.forward_dtype = job.runtime.forward_dtype;
  return config::resolved_yaml(only);
}

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

// Moves the job's outputs into the run's own folder.
void move_outputs(job::Job& job, const std::filesystem::path& folder) {
  name_artifacts(job, folder);
  job.run_dir = folder;
  if (!job.calibration.save_imatrix.empty())
    job.calibration.save_imatrix = folder / job.calibration.save_imatrix.filename();
}

void predict(Run& run) {
  const pipeline::OpenedJob opened = pipeline::open_job(run.job);
  run.tensor_bytes = opened.plans.front().tensor_bytes;
  run.bits_per_weight = opened.plans.front().bits_per_weight;
  run.statistics_bytes = resume::statistics_bytes(opened.measured);
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
              fmt::format("{} of {} points are invalid; nothing was run. Exclude them, or set "
                          "on_invalid: skip to list them as failed:\n  {}",
                          reasons.size(), points.size(), fmt::join(reasons, "\n  ")));
}

void refuse_duplicates(const std::vector<PlannedPoint>& points) {
  std::map<std::string, const PlannedPoint*> first;
  for (const PlannedPoint& planned : points)
    for (const Run& run : planned.runs) {
      const auto [place, is_new] = first.try_emplace(run.hash, &planned);
      if (is_new) continue;
      const PlannedPoint& other = *place->second;
      throw Error(ErrorKind::kConfig, "E185",
                  fmt::format("point {} ({}) and point {} ({}){} are the same job: the difference "
                              "has no effect. Exclude one, or remove the key",
                              other.point.number, shown(other.point.settings), planned.point.number,
                              shown(planned.point.settings),
                              run.replicate > 0 ? ", or their replicates," : ""));
    }
}

// True if the run could share its statistics with another.
bool measures_the_original(const Run& run) {
  return !run.refusal.any() && !run.job.quantization.propagate_error && run.job.calibration.given();
}

void settle_sharing(SweepPlan& plan) {
  config::Sharing& share = plan.sweep.share;
  if (!share.statistics) return;
  std::size_t measuring = 0;
  const Run* propagating = nullptr;
  std::map<std::string, std::uint64_t> sets;  // bytes of each set
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
                "share: statistics needs quantization.propagate_error: false. Otherwise a layer's "
                "inputs depend on the rounding of earlier layers and differ between points. Set it "
                "in `set`, or remove statistics from share");
  if (propagating)
    plan.notes.push_back("with propagate_error: true, statistics are measured for every point");
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
