#pragma once

#include <memory>
#include <vector>

#include "calque/formats/writer.h"
#include "calque/pipeline/open_job.h"
#include "calque/record/report.h"
#include "calque/resume/run_folder.h"
#include "pipeline/run_log.h"

namespace calque::pipeline {

using Writers = std::vector<std::unique_ptr<formats::ArtifactWriter>>;

// The files that a job writes, and what of them an earlier process has finished.
class Outputs {
 public:
  // All must outlive it.
  Outputs(const OpenedJob& opened, resume::RunFolder& folder, RunLog& log)
      : opened_(opened), folder_(folder), log_(log) {}

  // Writers of those of one pass that are not finished; after `calibration_rows` of text. Where an
  // earlier process stopped between blocks (`before`) that is all of them, and they go on.
  // Error(kInput, "E308") if one that was finished is gone.
  Writers open(const std::vector<std::size_t>& exports, const resume::PassProgress& before,
               Index calibration_rows);
  // Makes the artifacts appear, and fills their reports in; `writers` is what open() gave.
  void finish(const std::vector<std::size_t>& exports, Writers& writers,
              const std::vector<record::ModuleReport>& modules,
              std::vector<record::ArtifactReport>& reports);

 private:
  bool is_finished(std::size_t index) const;
  void require_finished(std::size_t index) const;
  void warn(const formats::ExportPlan& plan);

  const OpenedJob& opened_;
  resume::RunFolder& folder_;
  RunLog& log_;
};

}  // namespace calque::pipeline
