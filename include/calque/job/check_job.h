#pragma once

#include "calque/formats/source.h"
#include "calque/job/job.h"

namespace calque::job {

// What a job's settings must agree on, with each other and with the model. Error(kConfig) naming
// the key that mends it; Error(kInput, "E202") for a file that is not there.
void check_job(const Job& job, const formats::SourceModel& source);

// Error(kConfig, "E209") if something is at a path that the job writes and may not be replaced.
void check_targets(const Job& job);

// Whether a text of the job has to be tokenized.
bool reads_text(const Job& job);

}  // namespace calque::job
