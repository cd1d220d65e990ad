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

// The files that a job writes, including those that an earlier process began.
class Outputs {
 public:
  // The arguments must outlive this object.
  Outputs(const OpenedJob& opened, resume::RunFolder& folder, RunLog& log)
      : opened_(opened), folder_(folder), log_(log) {}

  // Opens writers for the unfinished exports of one pass, with `calibration_rows` of text. If an
  // earlier process stopped between blocks (`before`), these are all of them, and they continue.
  // Error(kInput, "E308") if a finished export is missing.
  Writers open(const std::vector<std::size_t>& exports, const resume::PassProgress& before,
               Index calibration_rows);
  // Makes the artifacts visible and completes their reports; `writers` comes from open().
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
