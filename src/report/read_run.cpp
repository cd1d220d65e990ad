#include <fmt/format.h>

#include <filesystem>

#include "calque/core/paths.h"
#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/report/record.h"
#include "report/csv.h"
#include "report/read_metrics.h"
#include "report/read_modules.h"

namespace calque::report {
namespace {

namespace fs = std::filesystem;

// Calls `read` with what the file holds; whatever is wrong with that is E252.
template <typename Read>
void read_json_file(const fs::path& path, const Read& read) {
  const std::string text = io::read_file(path);
  try {
    read(io::parse_json(text));
  } catch (const Error& error) {
    throw Error(
        ErrorKind::kInput, "E252",
        fmt::format(
            "{}: {}. The file is damaged, or another program's; repeat the run, or restore it",
            path.string(), error.what()));
  }
}

// Where the record is: a run folder itself, or an artifact folder's calque/.
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

// An artifact's record tells of all exports of its run; the folder is one of them.
void keep_only(const std::string& name, Run& run) {
  std::erase_if(run.artifacts, [&](const Artifact& a) { return a.name != name; });
  for (Evaluation& evaluation : run.evaluations)
    std::erase_if(evaluation.models, [&](const ModelResult& m) {
      return m.kind == ModelKind::kArtifact && m.label != name;
    });
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
  const fs::path record = record_folder(folder);
  if (record.empty()) kind_of(folder);
  Run run;
  run.folder = folder;
  run.name = name_of(folder);
  if (fs::exists(record / "job.resolved.yaml"))
    run.resolved_job = io::read_file(record / "job.resolved.yaml");
  run.finished = fs::exists(record / "metrics.json");
  if (run.finished)
    read_json_file(record / "metrics.json", [&](const auto& json) { read_metrics(json, run); });
  if (fs::exists(record / "calibration_manifest.json"))
    read_json_file(record / "calibration_manifest.json",
                   [&](const auto& json) { run.calibration = token_record(json); });
  if (fs::exists(record / "modules.csv"))
    run.passes = passes_of(read_csv(record / "modules.csv", !run.finished));
  if (record != folder) keep_only(name_of(folder), run);
  return run;
}

const std::vector<Module>* Run::pass_of(std::size_t i) const {
  if (passes.size() == 1) return &passes.front();
  return passes.size() == artifacts.size() && i < passes.size() ? &passes[i] : nullptr;
}

const ModelResult* Evaluation::reference() const {
  for (const ModelResult& m : models)
    if (m.kind == ModelKind::kReference && m.kv_cache.empty()) return &m;
  return nullptr;
}

const ModelResult* Evaluation::noise_floor() const {
  for (const ModelResult& m : models)
    if (m.kind == ModelKind::kNoiseFloor && m.kv_cache.empty()) return &m;
  return nullptr;
}

const ModelResult* Evaluation::artifact(const std::string& label) const {
  for (const ModelResult& m : models)
    if (m.kind == ModelKind::kArtifact && m.kv_cache.empty() && m.label == label) return &m;
  return nullptr;
}

}  // namespace calque::report
