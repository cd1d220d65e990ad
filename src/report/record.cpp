#include "calque/report/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "calque/core/error.h"
#include "calque/core/paths.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/record/modules_csv.h"
#include "calque/record/report_json.h"

namespace calque::report {
namespace {

namespace fs = std::filesystem;

// Calls `read` with the file's contents; any fault in them becomes E252.
template <typename Read>
void read_json_file(const fs::path& path, const Read& read) {
  const std::string text = io::read_file(path);
  try {
    read(io::parse_json(text));
  } catch (const Error& error) {
    throw Error(ErrorKind::kInput, "E252",
                fmt::format("{}: {}. The file is damaged or was written by another program; repeat "
                            "the run, or restore the file",
                            path.string(), error.what()));
  }
}

// The folder with the record: a run folder itself, or an artifact folder's calque/.
fs::path record_folder(const fs::path& folder) {
  for (const char* name : {"metrics.json", "job.resolved.yaml"})
    if (fs::exists(folder / name)) return folder;
  if (fs::exists(folder / "calque" / "metrics.json")) return folder / "calque";
  return {};
}

bool is_sweep(const fs::path& folder) {
  return fs::exists(folder / "results.csv") || fs::exists(folder / "sweep.resolved.yaml");
}

std::string name_of(const fs::path& folder) { return last_name(folder); }

// An artifact's record covers all exports of its run; keeps only the one in this folder.
void keep_only(const std::string& name, Run& run) {
  std::vector<std::uint64_t>& predicted = run.predicted.file_bytes;
  for (std::size_t i = run.artifacts.size(); i-- > 0;) {
    if (run.artifacts[i].name() == name) continue;
    run.artifacts.erase(run.artifacts.begin() + static_cast<std::ptrdiff_t>(i));
    predicted.erase(predicted.begin() + static_cast<std::ptrdiff_t>(i));
  }
  for (record::EvaluationReport& evaluation : run.evaluations)
    std::erase_if(evaluation.models, [&](const record::Measurement& m) {
      return (m.kind == record::ModelKind::kArtifact || m.kind == record::ModelKind::kOriginal) &&
             m.label != name;
    });
  for (record::TaskReport& task : run.tasks)
    std::erase_if(task.models, [&](const record::TaskMeasurement& m) {
      return (m.kind == record::ModelKind::kArtifact || m.kind == record::ModelKind::kOriginal) &&
             m.label != name;
    });
}

// Swept keys are the columns between `error` and `method`.
std::vector<std::string> swept_keys(const io::Csv& csv, const fs::path& path) {
  const int first = csv.column("error") + 1;
  const int last = csv.column("method");
  if (first == 0 || last < first)
    throw Error(ErrorKind::kInput, "E252",
                fmt::format("{}:1: not the table of a sweep (columns point, hash, status, error, "
                            "..., method); repeat 'calque sweep', which writes it again",
                            path.string()));
  return {csv.titles.begin() + first, csv.titles.begin() + last};
}

// The names in the titles "`column`[NAME]".
std::vector<std::string> names_in_columns(const io::Csv& csv, const std::string& column) {
  std::vector<std::string> names;
  const std::size_t before = column.size() + 1;
  for (const std::string& title : csv.titles)
    if (title.starts_with(column + "[") && title.ends_with(']'))
      names.push_back(title.substr(before, title.size() - before - 1));
  return names;
}

// The main text from the first row that names it; further texts from columns "kl_mean[NAME]".
std::vector<std::string> texts_in(const io::Csv& csv) {
  std::vector<std::string> texts(1);
  for (std::size_t row = 0; row < csv.rows.size() && texts.front().empty(); ++row)
    texts.front() = csv.cell(row, "text");
  for (std::string& name : names_in_columns(csv, "kl_mean")) texts.push_back(std::move(name));
  return texts;
}

SweepPoint point_of(const io::Csv& csv, std::size_t row) {
  SweepPoint point;
  for (std::size_t c = 0; c < csv.titles.size(); ++c) point.cells[csv.titles[c]] = csv.rows[row][c];
  point.number = static_cast<int>(point.number_in("point"));
  point.hash = point.cell("hash");
  point.status = point.cell("status");
  point.error = point.cell("error");
  return point;
}

// Sums the seconds that sharing saved, from the runs of all points.
double saved_seconds(const fs::path& path) {
  if (!fs::exists(path)) return 0;
  const io::Csv runs = io::read_csv(path);
  double sum = 0;
  for (std::size_t row = 0; row < runs.rows.size(); ++row) {
    const std::string& cell = runs.cell(row, "saved_seconds");
    double seconds = 0;
    std::from_chars(cell.data(), cell.data() + cell.size(), seconds);
    sum += seconds;
  }
  return sum;
}

std::optional<Run> first_run(const Sweep& sweep) {
  for (const SweepPoint& point : sweep.points) {
    const fs::path folder = sweep.folder / "points" / point.hash;
    if (point.status == "done" && fs::exists(folder / "metrics.json")) return load_run(folder);
  }
  return {};
}

}  // namespace

FolderKind kind_of(const fs::path& folder) {
  if (is_sweep(folder)) return FolderKind::kSweep;
  if (!record_folder(folder).empty()) return FolderKind::kRun;
  throw Error(
      ErrorKind::kInput, "E251",
      fmt::format("'{}' is {}; give a run folder (with metrics.json or job.resolved.yaml), "
                  "a sweep folder (with results.csv), or an artifact folder that calque "
                  "has written (with calque/metrics.json)",
                  folder.string(), fs::exists(folder) ? "neither a run nor a sweep" : "not there"));
}

Run load_run(const fs::path& folder) {
  const fs::path files = record_folder(folder);
  if (files.empty()) kind_of(folder);
  Run run;
  run.folder = folder;
  run.name = name_of(folder);
  if (fs::exists(files / "job.resolved.yaml"))
    run.resolved_job = io::read_file(files / "job.resolved.yaml");
  run.finished = fs::exists(files / "metrics.json");
  if (run.finished)
    read_json_file(files / "metrics.json", [&](const io::Json& json) {
      static_cast<record::Report&>(run) = record::report_from(json);
    });
  if (!run.job_name.empty()) run.name = run.job_name;
  if (fs::exists(files / "calibration_manifest.json"))
    read_json_file(files / "calibration_manifest.json",
                   [&](const io::Json& json) { run.calibration = record::manifest_from(json); });
  if (fs::exists(files / "modules.csv"))
    run.passes = record::passes_from(io::read_csv(files / "modules.csv", !run.finished));
  if (files != folder) keep_only(name_of(folder), run);
  return run;
}

const std::vector<record::ModuleReport>* Run::pass_of(std::size_t i) const {
  if (passes.size() == 1) return &passes.front();
  return passes.size() == artifacts.size() && i < passes.size() ? &passes[i] : nullptr;
}

std::string SweepPoint::cell(const std::string& column) const {
  const auto found = cells.find(column);
  return found == cells.end() ? "" : found->second;
}

double SweepPoint::number_in(const std::string& column) const {
  const std::string text = cell(column);
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Sweep load_sweep(const fs::path& folder) {
  Sweep sweep;
  sweep.folder = folder;
  sweep.name = name_of(folder);
  if (fs::exists(folder / "sweep.resolved.yaml"))
    sweep.resolved = io::read_file(folder / "sweep.resolved.yaml");
  const fs::path path = folder / "results.csv";
  if (!fs::exists(path)) return sweep;
  const io::Csv csv = io::read_csv(path);
  sweep.swept = swept_keys(csv, path);
  sweep.texts = texts_in(csv);
  sweep.tasks = names_in_columns(csv, "task");
  for (std::size_t row = 0; row < csv.rows.size(); ++row)
    sweep.points.push_back(point_of(csv, row));
  sweep.saved_seconds = saved_seconds(folder / "runs.csv");
  sweep.first_run = first_run(sweep);
  return sweep;
}

}  // namespace calque::report
