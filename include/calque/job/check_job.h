#pragma once

#include "calque/formats/source.h"
#include "calque/job/job.h"

namespace calque::job {

// Error(kInput): "E178" if the model is neither a path nor in the Hugging Face cache, "E179" if its
// snapshot there is not complete.
void check_model(const ModelSettings& model);

// Checks a job's settings against each other and against the model. Error(kConfig) names the key to
// change; Error(kInput, "E202") is thrown for a missing file.
void check_job(const Job& job, const formats::SourceModel& source);

// Error(kConfig, "E208") if two exports write the same path.
void check_distinct_paths(const std::vector<formats::ExportRequest>& exports);

// Error(kConfig, "E209") if a path that the job writes exists and may not be replaced.
void check_targets(const Job& job);

// True if the job has text to tokenize.
bool reads_text(const Job& job);

}  // namespace calque::job
