#include "pipeline/export_writers.h"

#include <fmt/format.h>

#include "calque/formats/reader.h"
#include "calque/core/error.h"
#include "pipeline/writer_inputs.h"

namespace calque::pipeline {

ExportWriters::ExportWriters(const job::Job& job, const SourceModel& source,
                             const std::vector<formats::ExportPlan>& plans,
                             const std::optional<calib::Importance>& importance, const Exec& pack,
                             resume::RunState& state, RunLog& log)
    : job_(job),
      source_(source),
      plans_(plans),
      importance_(importance),
      pack_(pack),
      state_(state),
      log_(log) {}

Writers ExportWriters::open(const std::vector<std::size_t>& exports, const resume::PassProgress& before,
                            Index calibration_rows) {
  Writers writers;
  for (std::size_t n = 0; n < exports.size(); ++n) {
    if (is_finished(exports[n])) {
      require_finished(exports[n]);
      continue;
    }
    const formats::ExportPlan& plan = plans_[exports[n]];
    if (before.blocks == 0) {
      writers.push_back(writer_for(plan, nullptr, calibration_rows));
    } else {
      const formats::KeptArtifact kept{before.rounding.given, before.notes.at(n)};
      writers.push_back(writer_for(plan, &kept, calibration_rows));
    }
    if (const std::string unused = unused_scales(job_, plan); !unused.empty()) log_.warning(unused);
  }
  return writers;
}

void ExportWriters::finish(const std::vector<std::size_t>& exports, Writers& writers,
                           const std::vector<record::ModuleReport>& modules,
                           std::vector<record::ArtifactReport>& reports) {
  auto writer = writers.begin();
  for (const std::size_t i : exports) {
    record::ArtifactReport& artifact = reports[i];
    if (!is_finished(i)) {
      (*writer++)->finish();
      state_.export_finished(i);
    }
    artifact.plan = plans_[i];
    artifact.modules = modules;
    artifact.bits_per_weight = artifact.plan.bits_per_weight;
    artifact.file_bytes = formats::open_artifact(artifact.plan.request.path)->file_bytes();
  }
}

bool ExportWriters::is_finished(std::size_t index) const {
  return state_.progress().exports.count(index) > 0;
}

void ExportWriters::require_finished(std::size_t index) const {
  const formats::ExportRequest& request = plans_[index].request;
  if (formats::files_at(request).empty())
    throw Error(ErrorKind::kInput, "E308",
                fmt::format("cannot go on: {} was finished and is gone. Put it back, or start "
                            "anew with --resume never",
                            request.path.string()));
}

// `kept`: null to begin.
std::unique_ptr<formats::ArtifactWriter> ExportWriters::writer_for(
    const formats::ExportPlan& plan, const formats::KeptArtifact* kept, Index calibration_rows) {
  return formats::open_writer(
      plan, {.family = source_.family,
             .source = *source_.weights,
             .model_folder = job_.model.path,
             .vocabulary = vocabulary(plan.request),
             .provenance = provenance_of(job_, source_, plan, importance_, calibration_rows),
             .carried = source_.is_gguf() ? &source_.metadata : nullptr,
             .pack = pack_,
             .kept = kept});
}

// GGUF carries the tokenizer inside; a model without one is written without.
const text::Vocabulary* ExportWriters::vocabulary(const formats::ExportRequest& request) {
  if (const std::string missing = missing_tokenizer(job_, request); !missing.empty())
    log_.warning(missing);
  std::optional<text::Vocabulary> loaded = vocabulary_for(job_, source_, request);
  if (!loaded) return nullptr;
  vocabularies_.push_back(std::make_unique<text::Vocabulary>(std::move(*loaded)));
  return vocabularies_.back().get();
}

}  // namespace calque::pipeline
