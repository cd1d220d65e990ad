#include "calque/pipeline/publish.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "calque/artifact/verify.h"
#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/pipeline/report_json.h"
#include "calque/pipeline/verify_artifact.h"
#include "pipeline/model_card.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Of the files as written. nullopt: this build cannot run a model.
std::optional<Probe> probe_of(const fs::path& folder, int threads) {
  const auto reader = artifact::open_artifact(folder);
  try {
    return make_probe(*reader, probe_prompt(folder, reader->config().vocab_size), threads);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kConfig) return std::nullopt;
    throw;
  }
}

std::string metrics_text(const Report& report, std::size_t index, const Job& job) {
  const fs::path& folder = report.artifacts[index].plan.request.path;
  Json json = Json::parse(report_json(report));
  json["artifact"] = folder.filename().string();
  for (Json& warning : json["warnings"]) warning = without_local_paths(warning.get<std::string>());
  if (const std::optional<Probe> probe = probe_of(folder, job.runtime.threads))
    json["probe"] = Json::parse(probe_json(*probe));
  return json.dump(2) + "\n";
}

}  // namespace

void publish_folder(const Report& report, std::size_t artifact_index, const Job& job,
                    const std::string& resolved_yaml) {
  const artifact::ExportRequest& request = report.artifacts[artifact_index].plan.request;
  if (request.format == "gguf") return;
  const fs::path facts = request.path / "calque";
  fs::create_directories(facts);
  io::write_file(facts / "job.resolved.yaml", without_local_paths(resolved_yaml));
  io::write_file(facts / "calibration_manifest.json", manifest_json(report.calibration));
  io::write_file(facts / "metrics.json", metrics_text(report, artifact_index, job));
  if (job.publish.model_card)
    io::write_file(request.path / "README.md",
                   model_card(report, artifact_index, job, resolved_yaml));
  if (job.publish.checksums) artifact::write_checksums(request.path);
}

}  // namespace calque::pipeline
