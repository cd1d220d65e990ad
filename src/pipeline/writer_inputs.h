#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "calque/artifact/writer.h"
#include "calque/pipeline/job.h"
#include "pipeline/importance.h"
#include "pipeline/plan_job.h"

namespace calque::pipeline {

// "folder", or "file" without its ending. "." has a name, too.
std::string name_of_model(const std::filesystem::path& path);

// What an export says of its making, as far as it is known before. `rows`: of calibration text.
artifact::Provenance provenance_of(const Job& job, const SourceModel& source,
                                   const artifact::ExportPlan& plan,
                                   const std::optional<Importance>& importance, Index rows);

// The tokenizer that a GGUF file of this model gets; none for other formats, for a model without
// one, and where the source is a GGUF file whose own keys are carried over.
std::optional<text::Vocabulary> vocabulary_for(const Job& job, const SourceModel& source,
                                               const artifact::ExportRequest& request);

// "the model has no tokenizer: ...", where a GGUF file would need one; "": nothing to say.
std::string missing_tokenizer(const Job& job, const artifact::ExportRequest& request);

// "model.gguf: type ... takes no channel scales ...", of method awq; "": nothing to say.
std::string unused_scales(const Job& job, const artifact::ExportPlan& plan);

}  // namespace calque::pipeline
