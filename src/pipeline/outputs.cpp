#include "pipeline/outputs.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "calque/job/passes.h"

namespace calque::pipeline {

Writers Outputs::open(const std::vector<std::size_t>& exports, const resume::PassProgress& before,
                      Index calibration_rows) {
  Writers writers;
  for (std::size_t n = 0; n < exports.size(); ++n) {
    if (is_finished(exports[n])) {
      require_finished(exports[n]);
      continue;
    }
    const formats::ExportPlan& plan = opened_.plans[exports[n]];
    formats::WriterInputs inputs = opened_.writer_inputs(plan, calibration_rows);
    std::optional<formats::KeptArtifact> kept;
    if (before.blocks > 0) kept = {before.rounding.given, before.notes.at(n)};
    inputs.kept = kept ? &*kept : nullptr;
    writers.push_back(formats::open_writer(plan, inputs));
    warn(plan);
  }
  return writers;
}

void Outputs::warn(const formats::ExportPlan& plan) {
  for (const std::string& warning :
       {job::missing_tokenizer(opened_.job, plan.request), job::unused_scales(opened_.job, plan)})
    if (!warning.empty()) log_.warning(warning);
}

void Outputs::finish(const std::vector<std::size_t>& exports, Writers& writers,
                     const std::vector<record::ModuleReport>& modules,
                     std::vector<record::ArtifactReport>& reports) {
  auto writer = writers.begin();
  for (const std::size_t i : exports) {
    record::ArtifactReport& artifact = reports[i];
    if (!is_finished(i)) {
      (*writer++)->finish();
      folder_.export_finished(i);
    }
    artifact.plan = opened_.plans[i];
    artifact.modules = modules;
    artifact.bits_per_weight = artifact.plan.bits_per_weight;
    artifact.file_bytes = formats::open_artifact(artifact.plan.request.path)->file_bytes();
  }
}

bool Outputs::is_finished(std::size_t index) const {
  return folder_.progress().exports.count(index) > 0;
}

void Outputs::require_finished(std::size_t index) const {
  const formats::ExportRequest& request = opened_.plans[index].request;
  if (formats::files_at(request).empty())
    throw Error(ErrorKind::kInput, "E308",
                fmt::format("cannot resume: {} was finished but is missing. Restore it, or start "
                            "again with --resume never",
                            request.path.string()));
}

}  // namespace calque::pipeline
