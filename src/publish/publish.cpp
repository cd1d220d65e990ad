#include "calque/publish/publish.h"

#include <optional>

#include "calque/core/error.h"
#include "calque/formats/format.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/record/report_json.h"
#include "calque/verify/verify.h"
#include "calque/verify/verify_artifact.h"
#include "publish/model_card.h"

namespace calque::publish {
namespace {

namespace fs = std::filesystem;
using io::Json;

// Probes the written files. nullopt: this build cannot run a model.
std::optional<verify::Probe> probe_of(const fs::path& folder, int threads) {
  const auto reader = formats::open_artifact(folder);
  try {
    return verify::make_probe(*reader, verify::probe_prompt(folder, reader->config().vocab_size),
                              threads);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kConfig) return std::nullopt;
    throw;
  }
}

std::string metrics_text(const record::Report& report, std::size_t index, const job::Job& job) {
  const fs::path& folder = report.artifacts[index].plan.request.path;
  Json json = io::parse_json(report_json(report));
  json["artifact"] = folder.filename().string();
  for (Json& warning : json["warnings"].elements()) warning = without_local_paths(warning.string());
  if (const std::optional<verify::Probe> probe = probe_of(folder, job.runtime.threads))
    json["probe"] = io::parse_json(probe_json(*probe));
  return json.dump(2) + "\n";
}

}  // namespace

void publish_folder(const record::Report& report, std::size_t artifact_index, const job::Job& job,
                    const std::string& resolved_yaml) {
  const formats::ExportRequest& request = report.artifacts[artifact_index].plan.request;
  if (!format_of(request).is_folder) return;
  const fs::path facts = request.path / "calque";
  fs::create_directories(facts);
  io::write_file(facts / "job.resolved.yaml", without_local_paths(resolved_yaml));
  io::write_file(facts / "calibration_manifest.json", record::manifest_json(report.calibration));
  io::write_file(facts / "metrics.json", metrics_text(report, artifact_index, job));
  if (job.publish.model_card)
    io::write_file(request.path / "README.md",
                   model_card(report, artifact_index, job, resolved_yaml));
  if (job.publish.checksums) verify::write_checksums(request.path);
}

}  // namespace calque::publish
