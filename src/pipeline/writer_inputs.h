#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "calque/formats/writer.h"
#include "calque/job/job.h"
#include "calib/importance.h"
#include "pipeline/plan_job.h"

namespace calque::pipeline {

// "folder", or "file" without its ending. "." has a name, too.
std::string name_of_model(const std::filesystem::path& path);

// What an export says of its making, as far as it is known before. `rows`: of calibration text.
formats::Provenance provenance_of(const job::Job& job, const SourceModel& source,
                                   const formats::ExportPlan& plan,
                                   const std::optional<calib::Importance>& importance, Index rows);

// The tokenizer that a GGUF file of this model gets; none for other formats, for a model without
// one, and where the source is a GGUF file whose own keys are carried over.
std::optional<text::Vocabulary> vocabulary_for(const job::Job& job, const SourceModel& source,
                                               const formats::ExportRequest& request);

// "the model has no tokenizer: ...", where a GGUF file would need one; "": nothing to say.
std::string missing_tokenizer(const job::Job& job, const formats::ExportRequest& request);

// "model.gguf: type ... takes no channel scales ...", of method awq; "": nothing to say.
std::string unused_scales(const job::Job& job, const formats::ExportPlan& plan);

}  // namespace calque::pipeline
