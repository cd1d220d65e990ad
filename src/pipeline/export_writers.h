#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "calque/formats/writer.h"
#include "calque/record/report.h"
#include "calque/text/vocabulary.h"
#include "calib/importance.h"
#include "pipeline/plan_job.h"
#include "pipeline/run_log.h"
#include "resume/run_state.h"

namespace calque::pipeline {

using Writers = std::vector<std::unique_ptr<formats::ArtifactWriter>>;

// The writers of a job's exports, and what of them an earlier process has finished.
class ExportWriters {
 public:
  // All must outlive it; `pack`: where codes are packed.
  ExportWriters(const job::Job& job, const SourceModel& source,
                const std::vector<formats::ExportPlan>& plans,
                const std::optional<calib::Importance>& importance, const Exec& pack, resume::RunState& state,
                RunLog& log);

  // Of those of one pass that are not finished; after `calibration_rows` of text. Where an earlier
  // process stopped between blocks (`before`) that is all of them, and they go on. Error(kInput,
  // "E308") if one that was finished is gone.
  Writers open(const std::vector<std::size_t>& exports, const resume::PassProgress& before,
               Index calibration_rows);
  // Makes the artifacts appear, and fills their reports in; `writers` is what open() gave.
  void finish(const std::vector<std::size_t>& exports, Writers& writers,
              const std::vector<record::ModuleReport>& modules, std::vector<record::ArtifactReport>& reports);

 private:
  bool is_finished(std::size_t index) const;
  void require_finished(std::size_t index) const;
  std::unique_ptr<formats::ArtifactWriter> writer_for(const formats::ExportPlan& plan,
                                                       const formats::KeptArtifact* kept,
                                                       Index calibration_rows);
  const text::Vocabulary* vocabulary(const formats::ExportRequest& request);

  const job::Job& job_;
  const SourceModel& source_;
  const std::vector<formats::ExportPlan>& plans_;
  const std::optional<calib::Importance>& importance_;
  const Exec& pack_;
  resume::RunState& state_;
  RunLog& log_;
  std::vector<std::unique_ptr<text::Vocabulary>> vocabularies_;  // writers read from them
};

}  // namespace calque::pipeline
